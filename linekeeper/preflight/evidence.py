"""Preflight reports as evidence, and the incident when something verified no longer holds.

The checks themselves need no database; what they found is kept here.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.incidents.announce import announce
from linekeeper.incidents.findings import open_or_reopen
from linekeeper.incidents.lifecycle import IncidentChange, Opening, perform
from linekeeper.preflight.intake import ReportError
from linekeeper.preflight.run import PreflightVerdicts
from linekeeper.preflight.targets import parse_target
from linekeeper.store import Store
from linekeeper.store.tables import (
    Audit,
    Connection,
    Customer,
    Implementation,
    ImplementationSystem,
    Incident,
    PreflightReport,
)
from linekeeper.text import named

TOPIC = "preflight"
KIND = "preflight_failed"
REACHED = "preflight_passed"
"""The check of the step that these reports prove."""
MAX_AGE = timedelta(days=30)
"""How old a report may be and still prove anything."""
CLOCK_SKEW = timedelta(hours=1)
"""How far the clock of a customer's machine may be ahead of ours."""
Source = Literal["flow", "import"]


@dataclass(frozen=True, slots=True)
class NamedTarget:
    """A system with a target, as people call it."""

    system_id: str
    implementation_id: str
    connection_id: str | None
    app: str
    label: str
    target: str | None
    vpn: bool = False
    """Makini reaches it through a VPN tunnel."""


class NoSuchSystem(Exception):
    """Nothing answers to that name; the message says what does."""


async def keep(
    store: Store,
    report: PreflightVerdicts,
    *,
    source: Source,
    by: str,
    now: datetime,
    worker: str | None = None,
) -> int:
    """Keep `report` as evidence, a row a target; returns how many were new.

    The same report again changes nothing. Raises `ReportError` for one from the future, since it
    would count as the latest for too long, and for one that is too old to prove anything.
    """
    if report.at > now + CLOCK_SKEW:
        raise ReportError(
            f"at: {report.at:%Y-%m-%d %H:%M} UTC is in the future: the clock of the machine that "
            "checked is wrong; set it, and check again"
        )
    if report.at < now - MAX_AGE:
        raise ReportError(
            f"at: {report.at:%Y-%m-%d} is {(now - report.at).days} days ago, and a report is "
            f"no evidence after {MAX_AGE.days}: check again"
        )
    async with store.write() as session:
        known = {
            row.target: row.verdicts
            for row in await session.scalars(
                select(PreflightReport).where(
                    col(PreflightReport.target).in_(report.targets),
                    col(PreflightReport.vantage) == report.vantage,
                    col(PreflightReport.at) == report.at,
                )
            )
        }
        for target, verdicts in known.items():
            if _judged(verdicts) != _judged(report.of(target)):
                raise ReportError(
                    f"at: a report on {target} of that very moment is here already, and it says "
                    "otherwise: check again"
                )
        new = [target for target in report.targets if target not in known]
        session.add_all(
            PreflightReport(
                target=target,
                vantage=report.vantage,
                at=report.at,
                passed=report.passed(target),
                verdicts=report.of(target),
                source=source,
                worker=worker,
                by=by,
                received_at=now,
            )
            for target in new
        )
        if new and source == "import":
            session.add(
                Audit(
                    at=now,
                    by=by,
                    action="preflight.import",
                    subject=f"{len(new)} targets from {report.vantage}",
                    detail={"targets": new, "findings": len(report.findings)},
                )
            )
        await session.flush()
    return len(new)


def _judged(verdicts: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    return {verdict["check"]: verdict["status"] for verdict in verdicts}


async def unowned_targets(store: Store, report: PreflightVerdicts) -> str:
    """Return a sentence with the targets of `report` that no system of an implementation has;
    empty if there are none. Such evidence proves no gate."""
    async with store.read() as session:
        known = {system.target for system in await named_targets(session)}
    if not (unknown := [target for target in report.targets if target not in known]):
        return ""
    return (
        f"No implementation has a system at {named(unknown)}: it is no evidence for a gate."
        " If it is one of theirs, say so in the form `implementation-change`"
    )


async def tunnelled(session: AsyncSession, targets: Collection[str]) -> list[NamedTarget]:
    """The systems at `targets` that Makini reaches through a VPN tunnel."""
    return [
        system for system in await named_targets(session) if system.vpn and system.target in targets
    ]


async def named_targets(session: AsyncSession) -> list[NamedTarget]:
    """Every system of an implementation that wasn't abandoned."""
    rows = await session.execute(
        select(
            col(ImplementationSystem.id),
            col(ImplementationSystem.implementation_id),
            col(ImplementationSystem.connection_id),
            col(Implementation.app),
            col(Customer.name),
            col(ImplementationSystem.name),
            col(ImplementationSystem.target),
            col(Connection.setup),
            col(ImplementationSystem.vpn),
        )
        .join(Implementation, col(Implementation.id) == col(ImplementationSystem.implementation_id))
        .join(Customer, col(Customer.id) == col(Implementation.customer_id))
        .outerjoin(Connection, col(Connection.id) == col(ImplementationSystem.connection_id))
        .where(col(Implementation.status) != "abandoned")
        .order_by(col(ImplementationSystem.id))
    )
    return [
        NamedTarget(row[0], row[1], row[2], row[3], f"{row[4]} · {row[5]}", row[6], row[8])
        for row in rows
        if row[7] != "disconnected"
    ]


async def find_named_targets(session: AsyncSession, wanted: str) -> list[NamedTarget]:
    """The systems `wanted` names: a customer, or `Customer · System`. Raises `NoSuchSystem`."""
    everything = await named_targets(session)
    folded = _fold(wanted)
    matching = [system for system in everything if _fold(system.label) == folded]
    if not matching:
        matching = [
            system for system in everything if _fold(system.label.split(" · ")[0]) == folded
        ]
    if not matching:
        labels = (
            "; ".join(sorted(system.label for system in everything)[:8]) or "none: start one first"
        )
        raise NoSuchSystem(f"no system of an implementation matches {wanted!r}: {labels}")
    return matching


async def name_target(store: Store, system: NamedTarget, target: str) -> None:
    """Keep where the system of `system` is reached, if nobody has said so before."""
    async with store.write() as session:
        await session.execute(
            update(ImplementationSystem)
            .where(
                col(ImplementationSystem.id) == system.system_id,
                col(ImplementationSystem.target).is_(None),
            )
            .values(target=str(parse_target(target)))
        )


async def verified(session: AsyncSession, worker: str | None = None) -> list[tuple[str, str]]:
    """Targets and vantages that a worker of ours once found in order: what is checked daily.

    A vantage belongs to the worker that has it: elsewhere a closed port says nothing. With
    `worker` only those that it proved, or that nobody says who proved.
    """
    current = {
        system.target for system in await named_targets(session) if system.target is not None
    }
    rows = await session.execute(
        select(col(PreflightReport.target), col(PreflightReport.vantage))
        .where(
            col(PreflightReport.source) == "flow",
            col(PreflightReport.passed).is_(True),
            *(
                []
                if worker is None
                else [
                    or_(
                        col(PreflightReport.worker) == worker,
                        col(PreflightReport.worker).is_(None),
                    )
                ]
            ),
        )
        .distinct()
    )
    return sorted((row[0], row[1]) for row in rows if row[0] in current)


async def other_workers(session: AsyncSession, worker: str) -> list[str]:
    """The workers other than `worker` that proved something which only they can check again."""
    current = {
        system.target for system in await named_targets(session) if system.target is not None
    }
    rows = await session.execute(
        select(col(PreflightReport.worker), col(PreflightReport.target))
        .where(
            col(PreflightReport.source) == "flow",
            col(PreflightReport.passed).is_(True),
            col(PreflightReport.worker).is_not(None),
            col(PreflightReport.worker) != worker,
        )
        .distinct()
    )
    return sorted({name for name, target in rows if name and target in current})


async def conclude_drift(
    store: Store, reports: Sequence[PreflightVerdicts], *, now: datetime
) -> list[IncidentChange]:
    """Open the incident of what was verified and no longer holds; resolve it when it does again.

    It is over, too, where no system is reached at its target any more: it moved, or its
    implementation or connection ended.
    """
    async with store.write() as session:
        held = {(t, v) for t, v in await verified(session)}
        named = {
            system.target: system
            for system in await named_targets(session)
            if system.target is not None
        }
        changes: list[IncidentChange] = []
        for report in reports:
            for target in report.targets:
                if (target, report.vantage) not in held:
                    continue
                system = named[target]
                change = await _conclude(store, session, report, target, system=system, now=now)
                changes += [change] if change else []
        if changes:
            await announce(store, session, changes, now=now)
        changes += await resolve_unused(store, session, now=now)
    return changes


async def resolve_unused(
    store: Store, session: AsyncSession, *, now: datetime
) -> list[IncidentChange]:
    """Resolve the incidents of targets at which no system is reached any more."""
    opened = await session.scalars(
        select(Incident).where(col(Incident.topic) == TOPIC, col(Incident.resolved_at).is_(None))
    )
    incidents = opened.all()
    if not incidents:
        return []
    held = set(await verified(session))
    changes = []
    for incident in incidents:
        target, vantage = str(incident.detail["target"]), str(incident.detail["vantage"])
        if (target, vantage) not in held:
            await perform(session, incident.id, "resolve", now=now)
            text = f"No system is reached at {target} any more"
            changes.append(IncidentChange(incident.id, "resolved", text))
    if changes:
        await announce(store, session, changes, now=now)
    return changes


async def _conclude(
    store: Store,
    session: AsyncSession,
    report: PreflightVerdicts,
    target: str,
    *,
    system: NamedTarget,
    now: datetime,
) -> IncidentChange | None:
    cause = f"preflight:{target}:{report.vantage}"
    opened = await session.scalar(
        select(Incident).where(col(Incident.cause) == cause, col(Incident.resolved_at).is_(None))
    )
    if report.passed(target):
        if opened is None:
            return None
        await perform(session, opened.id, "resolve", now=now)
        return IncidentChange(opened.id, "resolved", f"{target} is as it was verified again")
    findings = [verdict for verdict in report.findings if verdict.target == target]
    if opened is not None or not findings:
        return None  # known already, or it couldn't be judged this time
    opening = Opening(
        topic=TOPIC,
        kind=KIND,
        scope="connection",
        cause=cause,
        app=system.app,
        title=f"{system.label} · {target} from {report.vantage}",
        detail={"target": target, "vantage": report.vantage, "check": findings[0].check},
    )
    text = f"It was in order, and no longer is: {findings[0].message}"
    return await open_or_reopen(store, session, opening, text, now=now)


def _fold(text: str) -> str:
    return " ".join(text.replace("·", " ").casefold().split())
