"""How strong the evidence of the fleet's health is, in figures and in one sentence. Pure."""

from collections.abc import Mapping

from linekeeper.health.evidence import Evidence


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
    hand = "`linekeeper connection add` stores a connection's tokens by hand."
    if observed:
        return (
            "Connections that are only listed were not probed: Makini's list can call a "
            f"connection active although its login is lost. {hand} In mode `manage` tokens are "
            "minted and logins are tested; until then report your product's calls (`POST "
            "/api/connections/…/observations`)."
        )
    return f"Makini mints no token for what is only listed. {hand}"
