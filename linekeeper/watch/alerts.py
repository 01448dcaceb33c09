"""What Prefect's automations report becomes incidents of the topic `runs`, until it is over.

A run that came to its own end is red by its findings, and those have incidents; one that broke or
vanished has none, so this is where it gets one.
"""

import hashlib
import hmac
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from sqlalchemy import ColumnElement, delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.incidents.findings import (
    Finding,
    apply_findings,
    rename_cause,
    resolve_incident,
)
from linekeeper.incidents.one_cause import HOLDS_UP, MISSING
from linekeeper.redact import without_addresses, without_statement
from linekeeper.store import Store
from linekeeper.store.engine import insert_or_update
from linekeeper.store.tables import EndedRun, Incident, RunAlert
from linekeeper.watch.decide import AWAKE, QUIET_AFTER, WATCHERS, WatchPolicy, watching_since
from linekeeper.watch.queries import read_parts
from linekeeper.watch.work import works_of

TOPIC = "runs"
NO_WORKER = "no worker is online"
"""What holds a run up where no worker does."""
Kind = Literal["run_failed", "run_crashed", "run_late", "pool_not_ready"]
KINDS: tuple[Kind, ...] = ("run_failed", "run_crashed", "run_late", "pool_not_ready")
SETTLES: Mapping[str, timedelta] = {
    "run_late": timedelta(minutes=5),
    "run_crashed": timedelta(minutes=1),
    "pool_not_ready": timedelta(minutes=1),
}
"""What a start or a busy minute causes is over by then, and not worth a message; and a run that
somebody cancels is *Crashed* for half a minute, until its worker says so."""
CATCHES_UP = timedelta(minutes=3)
"""So long after what held runs up is over, such as a pause, they may still start one by one."""
_CANCELLED = ("Cancelling", "Cancelled")
KEPT = timedelta(hours=24)
FORGOTTEN: tuple[Kind, ...] = ("run_failed", "run_crashed")
"""What nobody ran again is not mentioned for longer; that a run is late or a pool is not ready
Prefect says as long as it is so."""
_UNTRIED = "No run of it has ended since, for 24 hours: it is not mentioned any longer."
_MOST = 300


@dataclass(frozen=True, slots=True)
class Alert:
    """One report. `subject` is the deployment's name, or the pool's."""

    kind: Kind
    subject: str
    run_id: str = ""
    run_name: str = ""
    state_message: str = ""


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How the last run of a deployment that finished did."""

    run_id: str
    completed: bool


def alert_secrets(encryption_keys: Sequence[str]) -> list[str]:
    """What Prefect's automations show, made of each of our keys; the first is the present one.

    It is a secret of its own: nothing else can be derived from it.
    """
    return [
        hmac.new(key.encode(), b"linekeeper:prefect-alerts", hashlib.sha256).hexdigest()
        for key in encryption_keys
    ]


async def record_alert(store: Store, alert: Alert) -> bool:
    """Keep `alert`; False for a run that is red by what it found. Brings the incidents in line."""
    async with store.write() as session:
        now = await store.clock(session)
        if alert.kind == "run_failed" and await session.get(EndedRun, alert.run_id) is not None:
            return False
        row = {
            "cause": f"{alert.kind}:{alert.subject[:_MOST]}",
            "kind": alert.kind,
            "subject": alert.subject[:_MOST],
            "run_id": alert.run_id[:_MOST],
            "run_name": alert.run_name[:_MOST],
            "state_message": alert.state_message[:_MOST],
            "at": now,
        }
        changing = ["run_id", "run_name"]
        if alert.kind != "run_late":  # of those it is what holds them up, which Prefect is asked
            changing.append("state_message")
        await insert_or_update(store, session, RunAlert, [row], key=["cause"], update=changing)
        if alert.kind in FORGOTTEN:  # the time counts from the last one, and it stays due
            due = now - SETTLES.get(alert.kind, timedelta())
            of_row = update(RunAlert).where(
                col(RunAlert.cause) == row["cause"], col(RunAlert.at) < due
            )
            await session.execute(of_row.values(at=due))
    await watch_runs(store)
    return True


_KNOWN = select(
    col(Incident.cause), col(Incident.title), col(Incident.summary), col(Incident.run_id)
).where(col(Incident.topic) == TOPIC, col(Incident.resolved_at).is_(None))
_REPORTED = select(RunAlert).order_by(col(RunAlert.cause))


async def watch_runs(store: Store) -> None:
    """Bring the incidents about runs in line with what was reported and is not over."""
    async with store.read() as session:
        now = await store.clock(session)
        findings = await _findings(session, now)
        rows = await session.execute(_KNOWN)
        known = {tuple(row) for row in rows}
    if known == {(each.cause, each.title, each.text, each.run_id) for each in findings}:
        return
    async with store.write() as session:
        now = await store.clock(session)
        findings = await _findings(session, now)
        await apply_findings(store, session, TOPIC, findings, now=now)


async def reported(store: Store) -> list[Alert]:
    async with store.read() as session:
        rows = await session.scalars(_REPORTED)
        return [_alert(row) for row in rows]


async def settle_reported(
    store: Store,
    looked_at: Collection[Alert],
    *,
    states: Mapping[str, str],
    finished: Mapping[str, RunOutcome],
    pool_ready: bool,
    late: Mapping[str, str],
    went_on: Collection[str] = (),
) -> None:
    """Forget what is over, by what Prefect says now: run → state, deployment → last outcome.

    `late`: run → what holds it up. `went_on`: the runs that have worked again since. Prefect was
    asked about `looked_at`: of what was reported since, nothing is known.
    """
    last = sorted(outcome.run_id for outcome in finished.values())
    async with store.read() as session:
        now = await store.clock(session)
        reports = list(await session.scalars(select(RunAlert)))
        ended = set(
            await session.scalars(
                select(col(EndedRun.run_id)).where(col(EndedRun.run_id).in_(last))
            )
        )
    asked = {(alert.kind, alert.subject, alert.run_id) for alert in looked_at}
    rows = [row for row in reports if (row.kind, row.subject, row.run_id) in asked]
    over = [
        row
        for row in rows
        if row.run_id in went_on
        or is_over(
            _alert(row),
            states=states,
            outcome=finished.get(row.subject),
            ended=ended,
            pool_ready=pool_ready,
        )
    ]
    untried = [
        row for row in reports if row.kind in FORGOTTEN and row not in over and now - row.at > KEPT
    ]
    explained = [
        (row, late[row.run_id])
        for row in rows
        if row.kind == "run_late" and late.get(row.run_id, row.state_message) != row.state_message
    ]
    if over or untried or explained:
        async with store.write() as session:
            for row in untried:
                cause = _cause_of(row)
                await resolve_incident(store, session, cause, _UNTRIED, now=now)
            for row in [*over, *untried]:
                await session.execute(delete(RunAlert).where(*_same(row)))
            for row, reason in sorted(explained, key=lambda each: each[1]):
                if not row.state_message:
                    await rename_cause(session, _cause_of(row), _late_cause(reason), now=now)
                of_row = update(RunAlert).where(*_same(row))
                # Where the reason was another: that is over, and this one counts from now.
                due = now - SETTLES["run_late"] + CATCHES_UP
                at = max(row.at, due) if row.state_message else row.at
                await session.execute(of_row.values(state_message=reason, at=at))
    if reports:
        await watch_runs(store)


def _same(row: RunAlert) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """That what was reported is what it was: a newer run may have taken its place meanwhile."""
    return col(RunAlert.cause) == row.cause, col(RunAlert.run_id) == row.run_id


def is_late(state: str | None) -> bool:
    """Whether a run that was reported as late waits still; None: the run is gone. Pure."""
    return state in ("Late", "Scheduled")


def is_over(
    alert: Alert,
    *,
    states: Mapping[str, str],
    outcome: RunOutcome | None,
    ended: Collection[str],
    pool_ready: bool,
) -> bool:
    """Whether what was reported is so no more: another run did its work, or it was meant. Pure."""
    if alert.kind == "pool_not_ready":
        return pool_ready
    if alert.kind == "run_late":
        return not is_late(states.get(alert.run_id))
    if states.get(alert.run_id) in _CANCELLED:
        return True
    if outcome is None or outcome.run_id == alert.run_id:
        return False
    return outcome.completed or outcome.run_id in ended


async def _findings(session: AsyncSession, now: datetime) -> list[Finding]:
    rows = await session.scalars(_REPORTED)
    known = {row.cause for row in await session.execute(_KNOWN)}
    watched = await _watched_since(session, now)
    due = [
        row
        for row in rows
        if _cause_of(row) in known
        or now - max(row.at, watched) >= SETTLES.get(row.kind, timedelta())
    ]
    if any(row.kind == "pool_not_ready" for row in due):  # why runs are late
        due = [row for row in due if row.kind != "run_late"]
    late: dict[str, list[RunAlert]] = {}
    for row in due:
        if row.kind == "run_late":
            late.setdefault(row.state_message, []).append(row)
    own = [_finding(row) for row in due if row.kind != "run_late"]
    return [*own, *(_late(reason, rows) for reason, rows in late.items())]


async def _watched_since(session: AsyncSession, now: datetime) -> datetime:
    """Since when somebody watches: what Prefect reports after a sleep of the machine, or as it
    starts, may be over in a moment."""
    parts = [part for part in await read_parts(session) if part.kind in (*WATCHERS, AWAKE)]
    if not parts:
        return datetime.min.replace(tzinfo=UTC)
    return watching_since(parts, WatchPolicy(QUIET_AFTER), now=now)


def _late(reason: str, rows: Sequence[RunAlert]) -> Finding:
    """All that the same thing holds up is one incident."""
    first = min(rows, key=lambda row: row.at)
    names = ", ".join(sorted(row.subject for row in rows))
    since = f"{first.at:%Y-%m-%d %H:%M} UTC"
    why = f": {reason}" if reason else ""
    return Finding(
        kind="run_late",
        cause=_cause_of(first),
        app="",
        title=f"Late runs since {since}{why}",
        text=f"Runs of {names} wait past their time, the first since {since}{why}. "
        "`linekeeper doctor` says what to do.",
        scope="house",
        run_id=first.run_id or None,
        resolved="What held these runs up is over.",
        detail={
            MISSING: "worker" if reason == NO_WORKER else "",
            HOLDS_UP: [f"parts:work:{work}" for work in works_of(row.subject for row in rows)],
        },
    )


def _finding(row: RunAlert) -> Finding:
    name = row.run_name or row.run_id
    message = without_addresses(without_statement(row.state_message)) or "no message"
    since = f"{row.at:%Y-%m-%d %H:%M} UTC"
    title, text, resolved = {
        "run_failed": (
            f"A run of {row.subject} failed",
            f"The run {name} of {row.subject} failed because of an error, not because of what it "
            f"found ({message}). Open the run in Prefect for its log, or ask `linekeeper "
            "doctor`; the next run that works resolves this.",
            f"It, or a later run of {row.subject}, did its work.",
        ),
        "run_crashed": (
            f"A run of {row.subject} crashed",
            f"The run {name} of {row.subject} crashed: its process ended or was lost "
            f"({message}). `linekeeper doctor` says whether workers are well; this is resolved "
            "once the run goes on, or the next one works.",
            f"It went on, a later run of {row.subject} did its work, or it had been cancelled.",
        ),
        "pool_not_ready": (
            f"Work pool {row.subject} not ready since {since}",
            f"Prefect says that no worker polls the work pool {row.subject} since {since}: no "
            "run starts. Start a worker, or resume the pool; `linekeeper doctor` says which.",
            f"The work pool {row.subject} is ready again.",
        ),
    }[row.kind]
    return Finding(
        kind=row.kind,
        cause=_cause_of(row),
        app="",
        title=title,
        text=text,
        scope="house",
        run_id=row.run_id or None,
        resolved=resolved,
        detail={MISSING: "worker" if row.kind == "pool_not_ready" else ""},
    )


def _cause_of(row: RunAlert) -> str:
    """That of the incident about `row`; runs that the same thing makes late share theirs."""
    return _late_cause(row.state_message) if row.kind == "run_late" else f"runs:{row.cause}"


def _late_cause(reason: str) -> str:
    return f"runs:run_late:{reason}"


def _alert(row: RunAlert) -> Alert:
    kind = next(kind for kind in KINDS if kind == row.kind)
    return Alert(kind, row.subject, row.run_id, row.run_name, row.state_message)
