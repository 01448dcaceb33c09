"""How strong the evidence of the fleet's health is, in figures and in one sentence. Pure."""

from collections.abc import Mapping

from linekeeper.health.evidence import Evidence, Health
from linekeeper.views.health_chart import LOOKS, ONLY_LISTED, Look


def counts_by_look(
    by_health: Mapping[str, int], evidence: Mapping[str, int]
) -> list[tuple[str, Look, int]]:
    """Each health with how it looks and how many there are; those that are only listed apart.

    Those of which there are none are left out.
    """
    listed = evidence.get(Evidence.listed.value, 0)
    counts = [
        (
            health,
            shown,
            by_health.get(health, 0) - (listed if health == Health.healthy else 0),
        )
        for health, shown in LOOKS.items()
    ]
    return [count for count in [*counts, ("listed", ONLY_LISTED, listed)] if count[2] > 0]


def evidence_sentence(evidence: Mapping[str, int]) -> str:
    """`600 listed as active, 0 verified by a read`, of healthy connections by their evidence.

    Empty where there are none.
    """
    listed, probed, read = (evidence.get(kind.value, 0) for kind in Evidence)
    if not listed + probed + read:
        return ""
    parts = [f"{listed:,} listed as active"] if listed else []
    parts += [f"{probed:,} answered a status call"] if probed else []
    return ", ".join([*parts, f"{read:,} verified by a read"])


def how_to_verify(evidence: Mapping[str, int], *, observed: bool) -> str:
    """What would verify those that are only listed; empty where nothing has to be done."""
    if not evidence.get(Evidence.listed.value):
        return ""
    if observed:
        return (
            "Connections that are only listed were not probed: Makini's list can call a "
            "connection active although its login is lost. Let your product lend its access "
            "tokens (`linekeeper tokens import`): Linekeeper reads with them and renews none. In "
            "mode `manage` Linekeeper has Makini mint tokens, which may end those that your "
            "product has. Or report your product's calls (`POST "
            "/api/connections/…/observations`)."
        )
    return (
        "Makini has minted no token yet for what is only listed. Where the next reads get none, "
        "`linekeeper tokens import` takes those of your product, `linekeeper connection add` those "
        "of one connection."
    )
