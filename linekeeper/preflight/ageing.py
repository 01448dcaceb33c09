"""Evidence that is none any more: old reports, certificates that end, addresses that changed.

A worker of ours renews what it proved each day. What a customer's IT sent, or another worker
proved, is asked for anew once it is no evidence any more; so is what proves another address than
the one at which the system is reached now.
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.incidents.findings import Finding, apply_findings
from linekeeper.incidents.lifecycle import IncidentChange
from linekeeper.preflight.evidence import MAX_AGE, REACHED, NamedTarget, named_targets
from linekeeper.preflight.verdict import EXPIRY_STEPS
from linekeeper.store import Store
from linekeeper.store.tables import Gate, PreflightReport
from linekeeper.text import counted

TOPIC = "preflight_evidence"


async def conclude_ageing(store: Store, *, now: datetime) -> list[IncidentChange]:
    """Open the incidents of evidence that is too old, of certificates that end and of addresses
    that nobody checked; resolve those of what was renewed."""
    async with store.write() as session:
        return await conclude_ageing_in(store, session, now=now)


async def conclude_ageing_in(
    store: Store, session: AsyncSession, *, now: datetime
) -> list[IncidentChange]:
    """The same in the caller's transaction."""
    known = [system for system in await named_targets(session) if system.target is not None]
    by_target = {system.target: system for system in known}
    findings = [
        finding
        for report in await _latest_good(session)
        if (system := by_target.get(report.target)) is not None
        for finding in judge_age(system, report, now)
    ]
    findings += [_ask_for(system) for system in await _unchecked(session, known)]
    return await apply_findings(store, session, TOPIC, findings, now=now)


async def _unchecked(session: AsyncSession, known: Iterable[NamedTarget]) -> list[NamedTarget]:
    """Those whose step was verified, but never at the address where they are reached now."""
    verified = await session.scalars(
        select(col(Gate.implementation_id)).where(
            col(Gate.check_name) == REACHED, col(Gate.status) == "done"
        )
    )
    passed = await session.scalars(
        select(col(PreflightReport.target))
        .where(col(PreflightReport.passed).is_(True), col(PreflightReport.vantage) != "outside")
        .distinct()
    )
    steps, targets = set(verified), set(passed)
    return [
        system
        for system in known
        if system.implementation_id in steps and system.target not in targets
    ]


def _ask_for(system: NamedTarget) -> Finding:
    return Finding(
        kind="preflight_missing",
        cause=f"preflight-missing:{system.system_id}:{system.target}",
        app=system.app,
        title=f"{system.label} · no check of {system.target}",
        text=f"{system.label} is reached at {system.target} since its step was completed, and no "
        "preflight found that address in order. Run preflight for it, or ask the customer's IT "
        "for a report.",
        scope="connection",
        members=[system.connection_id] if system.connection_id else [],
        resolved=f"{system.label} was checked where it is reached, or is reached elsewhere.",
        detail={"target": system.target},
    )


def judge_age(system: NamedTarget, report: PreflightReport, now: datetime) -> Iterable[Finding]:
    """What is wrong with the last good report on a target from one vantage; pure."""
    where = f"{report.target} from {report.vantage}"
    members = [system.connection_id] if system.connection_id else []
    age = (now - report.at).days
    if now - report.at > MAX_AGE:
        yield Finding(
            kind="preflight_outdated",
            cause=f"preflight-outdated:{report.target}:{report.vantage}",
            app=system.app,
            title=f"{system.label} · outdated report on {where}",
            text=f"{where} was last found in order {age} days ago, by {report.by}; a report is "
            f"no evidence after {MAX_AGE.days} days. Run preflight there again, or ask the "
            "customer's IT for a new report.",
            scope="connection",
            members=members,
            resolved=f"{where} was checked again.",
            detail={"target": report.target, "vantage": report.vantage},
        )
    for ends in {at for verdict in report.verdicts if (at := _ends(verdict)) is not None}:
        left = (ends - now).total_seconds() / 86400
        step = next((days for days in EXPIRY_STEPS if left < days), None)
        if step is None:
            continue
        until = f"{_ahead(ends.date(), now.date())}, on {ends:%Y-%m-%d}; after that"
        if left <= 0:
            until = f"ended on {ends:%Y-%m-%d}; unless it was renewed since,"
        yield Finding(
            kind="certificate_ending",
            cause=f"certificate:{report.target}:{report.vantage}:{step}",
            app=system.app,
            title=f"{system.label} · certificate of {report.target}, valid until {ends:%Y-%m-%d}",
            text=f"The certificate of {report.target} {until} every call fails. "
            "Ask the customer's IT to renew it, and check again.",
            scope="connection",
            members=members,
            resolved="The certificate was renewed, or its next warning is due.",
            detail={"target": report.target, "vantage": report.vantage, "step": step},
        )


def _ahead(day: date, today: date) -> str:
    """`ends in 5 days`, `ends tomorrow`: counted in dates, as the date stands beside it."""
    days = (day - today).days
    return {0: "ends today", 1: "ends tomorrow"}.get(days) or f"ends in {counted(days, 'day')}"


async def _latest_good(session: AsyncSession) -> list[PreflightReport]:
    """The latest report on each target from each vantage, where it found nothing."""
    latest = (
        select(
            col(PreflightReport.target).label("target"),
            col(PreflightReport.vantage).label("vantage"),
            func.max(PreflightReport.at).label("at"),
        )
        .group_by(col(PreflightReport.target), col(PreflightReport.vantage))
        .subquery()
    )
    rows = await session.scalars(
        select(PreflightReport)
        .join(
            latest,
            (col(PreflightReport.target) == latest.c.target)
            & (col(PreflightReport.vantage) == latest.c.vantage)
            & (col(PreflightReport.at) == latest.c.at),
        )
        .where(col(PreflightReport.passed).is_(True))
        .order_by(col(PreflightReport.id))
    )
    return list(rows)


def _ends(verdict: dict[str, object]) -> datetime | None:
    """When the certificate ends that a verdict saw; a customer's file may say anything."""
    try:
        ends = datetime.fromisoformat(str(verdict.get("ends") or ""))
    except ValueError:
        return None
    return ends if ends.tzinfo is not None else ends.replace(tzinfo=UTC)
