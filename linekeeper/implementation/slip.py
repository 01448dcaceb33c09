"""Whether an implementation slips, and the one line that says so. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from linekeeper.implementation.evaluate import Evaluation
from linekeeper.implementation.outlook import Outlook
from linekeeper.implementation.proofs import Trouble
from linekeeper.implementation.standing import Standing, turn_of
from linekeeper.people import person
from linekeeper.text import health_name

NAMED = 3
_TURN = {"us": "ours", "customer": "the customer's", "makini": "Makini's"}


@dataclass(frozen=True, slots=True)
class Slip:
    """What is late or will be. `signs` are remembered, so that each is told once."""

    signs: tuple[str, ...]
    line: str


def slip_of(
    standing: Standing, evaluation: Evaluation, outlook: Outlook, troubles: Sequence[Trouble]
) -> Slip | None:
    """The slip at one moment; None while everything is as planned, or the work is on hold.

    A system in trouble is one: before the go-live nobody else tells of it.
    """
    implementation = standing.implementation
    if implementation.status != "running":
        return None
    signs: list[str] = []
    parts: list[str] = []
    for word, lateness in (("overdue", "overdue"), ("late soon", "soon")):
        gates = [gate for gate, how in evaluation.late.items() if how == lateness]
        if gates:
            signs += [f"{lateness}:{gate}" for gate in gates]
            parts.append(f"{word}: {_named(standing, gates)}")
    if troubles:
        signs += [f"{trouble.health}:{trouble.connection_id}" for trouble in troubles]
        named = [f"{trouble.system} ({health_name(trouble.health)})" for trouble in troubles]
        parts.append(f"in trouble: {_listed(named)}")
    if outlook.commitment in ("at risk", "late"):
        signs.append(f"commitment:{outlook.commitment}")
        chance = round(100 * (outlook.forecast.chance or 0))
        parts.append(
            f"committed {outlook.plan.scope.committed} is {outlook.commitment} "
            f"(forecast go-live {outlook.p50} (P50), chance {chance} %)"
        )
    if not signs:
        return None
    return Slip(
        tuple(signs),
        f"{implementation.title}: {'; '.join(parts)}. Owner {person(implementation.owner).shown}",
    )


def news_in(slip: Slip | None, told: str) -> bool:
    """Whether `slip` has a sign people were not `told` of."""
    return slip is not None and not set(slip.signs) <= set(told.split("\n"))


def _named(standing: Standing, gates: list[str]) -> str:
    rows = [standing.gates[gate] for gate in gates]
    return _listed([f"{row.title} ({_TURN.get(turn_of(row), row.owner)} turn)" for row in rows])


def _listed(named: Sequence[str]) -> str:
    more = len(named) - NAMED
    return ", ".join(named[:NAMED]) + (f" and {more} more" if more > 0 else "")
