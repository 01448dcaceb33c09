"""Whether the call budget of an app bears what its connections need; an incident where not."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlmodel import col

from linekeeper.config import AppConfig, HealthPolicy
from linekeeper.incidents.findings import Finding, apply_findings
from linekeeper.reconcile.due import Paced, PollOrder, ReadState, standings
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Incident
from linekeeper.sweep.pace import (
    BUDGET_SHARE,
    SWEEP_MINUTES,
    for_tokens,
    in_words,
    probe_calls,
    reading_calls,
)
from linekeeper.sweep.renewals import count_renewed
from linekeeper.text import counted

TOPIC = "budget"
KIND = "budget_too_small"
TO_SPARE = 0.9
"""The share of the calls that may be needed at the most for the incident to be resolved."""
_UNPACED = Paced(None, 0, None)
"""Stands for what has no cadence of its own."""


@dataclass(frozen=True, slots=True)
class BudgetNeed:
    """Calls a minute that the connections of an app need, and what there is for them."""

    connections: int
    """Those that are probed and read."""
    every: float
    """Minutes in which each is to be probed."""
    probing: float
    renewed: int
    """Those of which a probe needs a new token."""
    for_probing: float
    reading: float
    for_reading: float
    listings: int
    """Calls to read everything once."""

    @property
    def load(self) -> float:
        """The share that is needed of what there is; above 1 it is not enough."""
        return max(self.probing / self.for_probing, self.reading / self.for_reading)

    @property
    def reads_late(self) -> str:
        """What becomes of the cadences; empty where they are kept."""
        if self.reading <= self.for_reading:
            return ""
        return (
            f"the call budget leaves {self.for_reading:,.0f} of the {self.reading:,.0f} calls a "
            f"minute that the cadences need, so to read everything once takes "
            f"{in_words(self.listings, self.for_reading)}, critical ones first"
        )

    @property
    def probes_late(self) -> str:
        """What becomes of the probes; empty where each is probed in time."""
        if self.probing <= self.for_probing:
            return ""
        late = self.every * self.probing / self.for_probing
        return (
            f"to probe each every {self.every:g} min takes {self.probing:,.0f} calls a minute"
            f"{for_tokens(self.renewed)}, and {self.for_probing:,.0f} are for it, so each is "
            f"probed every {late:,.0f} min, those in trouble first"
        )


async def need_of(rt: Runtime, app: AppConfig, order: PollOrder) -> BudgetNeed | None:
    """What the connections that `order` is about need; None where there is no limit, or nothing
    is asked of any of them."""
    if not app.per_minute:
        return None
    known, circuits = await standings(rt, app, order)
    if not (known or circuits):
        return None
    async with rt.store.read() as session:
        renewed = await count_renewed(session, app, now=order.started)
    return _need(app, (await rt.configuration()).policy, known, circuits, renewed)


def _need(
    app: AppConfig, policy: HealthPolicy, known: Sequence[ReadState], circuits: int, renewed: int
) -> BudgetNeed:
    connections = len(known) + circuits
    return BudgetNeed(
        connections=connections,
        every=policy.probe_minutes or SWEEP_MINUTES,
        probing=probe_calls(app, policy, connections, renewed),
        renewed=renewed,
        for_probing=app.calls_a_minute * BUDGET_SHARE,
        reading=calls_needed(known),
        for_reading=reading_calls(app, policy, connections, renewed),
        listings=sum(standing.wanted for standing in known),
    )


async def over_budget(rt: Runtime, app: AppConfig, order: PollOrder) -> str:
    """Why the connections of `app` can't be read as often as is said; empty where they can."""
    need = await need_of(rt, app, order)
    return f"app {app.name}: {need.reads_late}" if need is not None and need.reads_late else ""


async def watch_budget(rt: Runtime, *, now: datetime) -> None:
    """Bring the incidents of apps whose call budget is too small in line with what is needed.

    One is resolved once a tenth is to spare, so that it doesn't come and go with each connection.
    """
    apps = (await rt.configuration()).apps
    async with rt.store.read() as session:
        open_apps = set(await session.scalars(_OPEN))
    findings: list[Finding] = []
    for app in apps.values():
        need = await need_of(rt, app, PollOrder(started=now))
        if need is not None and need.load > (TO_SPARE if app.name in open_apps else 1.0):
            findings.append(_finding(app, need))
    if findings or open_apps:
        async with rt.store.write() as session:
            await apply_findings(rt.store, session, TOPIC, findings, now=now, apps=apps)


_OPEN = select(col(Incident.app)).where(
    col(Incident.topic) == TOPIC, col(Incident.resolved_at).is_(None)
)


def _finding(app: AppConfig, need: BudgetNeed) -> Finding:
    late = [said for said in (need.probes_late, need.reads_late) if said]
    said = "; ".join(late) or "it is enough by now, but without a tenth to spare"
    return Finding(
        kind=KIND,
        cause=f"app:{app.name}:{KIND}",
        app=app.name,
        title=f"app {app.name} · call budget too small",
        text=(
            f"{counted(need.connections, 'connection')} share {app.calls_a_minute:,} calls a "
            f"minute: {said}."
        ),
        figure=round(need.load, 1),
        resolved="The call budget is enough again.",
    )


def calls_needed(standings: Sequence[ReadState]) -> float:
    """Calls a minute to read each connection by its cadence, one page an entity. Pure.

    What was never asked for is taken to be offered.
    """
    minute = timedelta(minutes=1)
    return sum(
        sum(paced.offered / (standing.cadence(paced) / minute) for paced in standing.paced)
        + max(standing.wanted - standing.entities, 0) / (standing.cadence(_UNPACED) / minute)
        for standing in standings
    )
