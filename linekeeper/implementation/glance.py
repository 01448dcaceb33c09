"""How many implementations are underway and how they stand, in one line."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from linekeeper.implementation.queries import load_underway
from linekeeper.implementation.standing import Standing
from linekeeper.store import Store
from linekeeper.store.tables import Gate


@dataclass(frozen=True, slots=True)
class ImplementationsGlance:
    """Those that are underway: running or on hold."""

    running: int = 0
    on_hold: int = 0
    at_risk: int = 0
    """Those whose committed date is at risk by the last forecast, on hold or not."""
    late: int = 0
    """Those whose committed date is more likely missed than kept, likewise."""
    overdue_steps: int = 0
    """Open steps of those that run which have outlived their due day, or the longest likely."""
    next_overdue: str = ""
    """The one of them that was opened first: `Implementation · step`."""

    def as_json(self) -> dict[str, Any]:
        """Counts with stable keys."""
        plain = asdict(self)
        del plain["next_overdue"]
        return plain

    @property
    def sentence(self) -> str:
        """One line of `linekeeper status`."""
        if not self.running and not self.on_hold:
            return "implementations: none underway"
        said = (
            f"implementations: {self.running} running, {self.at_risk} at risk, {self.late} late, "
            f"{self.on_hold} on hold"
        )
        if not self.overdue_steps:
            return said
        steps = "step" if self.overdue_steps == 1 else "steps"
        first = ": " if self.overdue_steps == 1 else ", first "
        return f"{said}; {self.overdue_steps} {steps} overdue{first}{self.next_overdue}"


async def implementations_at_a_glance(store: Store, *, now: datetime) -> ImplementationsGlance:
    """How all that are underway stand at `now`, without moving any; forecasts are those kept."""
    async with store.read() as session:
        standings = await load_underway(session)
    rows = [standing.implementation for standing in standings]
    overdue = sorted(
        (gate.opened_at or now, f"{standing.implementation.title} · {gate.title}")
        for standing in standings
        for gate in _overdue(standing, now)
    )
    return ImplementationsGlance(
        running=sum(row.status == "running" for row in rows),
        on_hold=sum(row.status == "held" for row in rows),
        at_risk=sum(row.commitment == "at risk" for row in rows),
        late=sum(row.commitment == "late" for row in rows),
        overdue_steps=len(overdue),
        next_overdue=overdue[0][1] if overdue else "",
    )


def _overdue(standing: Standing, now: datetime) -> list[Gate]:
    """Its steps that are overdue at `now`; none while it is on hold (`progress.slip_of`)."""
    if standing.held:
        return []
    evaluation = standing.evaluate({}, now, held=True)  # nothing is opened by looking
    return [standing.gates[gate] for gate, how in evaluation.late.items() if how == "overdue"]
