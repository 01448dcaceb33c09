"""Linekeeper itself: its database (reachable, our keys, room on the disk), and its parts."""

import asyncio
import shutil
import stat
from datetime import timedelta

from sqlalchemy import false, func, select, update
from sqlalchemy.exc import DBAPIError
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.doctor.finding import DoctorFinding, ok, warn, wrong
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import KeyProblem, Store, StoreError
from linekeeper.store.errors import trouble_of
from linekeeper.store.leases import IS_CONSUMERS, is_about_one
from linekeeper.store.lists import count_rows
from linekeeper.store.schema import head, require_current
from linekeeper.store.tables import Audit, Connection, Lease
from linekeeper.store.usable import is_there
from linekeeper.text import counted, duration
from linekeeper.watch.decide import PREFECT, examine
from linekeeper.watch.queries import read_parts
from linekeeper.watch.service import policy_of
from linekeeper.watch.standing import PartStanding, stand
from linekeeper.watch.work import WORK

_RESTART = {
    "consumer": "start it: linekeeper consumer",
    "receiver": "start it: linekeeper receiver",
    "worker": "start it: prefect worker start --pool linekeeper",
    "prefect": "restart the Prefect server, or correct PREFECT_API_URL",
}
_NOBODY_ASKS = ("no consumer asks it", "start one: linekeeper consumer")
_UNKNOWN = {
    "worker": ("only Prefect knows, and it does not answer", "fix Prefect first"),
    "prefect": _NOBODY_ASKS,
}
"""Why nobody can say whether a part works, and what lets one."""


async def examine_parts(rt: Runtime) -> list[DoctorFinding]:
    """What the parts' own heartbeats say; nothing where none ever reported."""
    policy = policy_of(rt, await rt.configuration())
    async with rt.store.read() as session:
        now = await rt.store.clock(session)
        parts = await read_parts(session, now=now)
    seen = examine(parts, policy, now=now)
    findings = [
        wrong("overdue", trouble.text, "see the worker, the pool and the schedule above")
        for trouble in seen.troubles
        if trouble.kind == "work_overdue"
    ]
    standing = [each for each in stand(parts, policy, now=now) if each.kind not in WORK]
    is_asked = all(each.state != "unknown" for each in standing if each.kind == PREFECT)
    findings += [
        _finding_of(each, is_missed=each.name in seen.silent, is_asked=is_asked)
        for each in standing
    ]
    return [*findings, *_floors(policy.after), *await _leases(rt)]


def _floors(after: timedelta) -> list[DoctorFinding]:
    """Where `WATCH_MINUTES` is less than the least after which work is missed. Pure."""
    least = min((each for each in WORK.values() if each.of_apps), key=lambda each: each.least)
    if after >= least.least:
        return []
    text = (
        f"a part that is silent is missed after {duration(after)}, but a {least.called} not before "
        f"{duration(least.least)}, whatever WATCH_MINUTES says: that is two in a row. The runs of "
        "a worker go by the setting in its own environment, and by the same floor"
    )
    return [ok("watch minutes", text)]


async def _leases(rt: Runtime) -> list[DoctorFinding]:
    """What is under way: another run of the same work ends Skipped, or waits if asked by hand."""
    async with rt.store.read() as session:
        now = await rt.store.clock(session)
        held = list(
            await session.scalars(
                select(Lease).where(col(Lease.until) > now, ~IS_CONSUMERS).order_by(col(Lease.name))
            )
        )
    findings = [
        ok(f"lease · {lease.name}", f"held by {lease.owner} until {lease.until:%H:%M:%S} UTC")
        for lease in held
        if not is_about_one(lease.kind)
    ]
    if of_one := {lease.subject for lease in held if is_about_one(lease.kind)}:
        work = f"work on {counted(len(of_one), 'connection')}"
        findings.append(ok("lease · connections", work))
    return findings


def _finding_of(part: PartStanding, *, is_missed: bool, is_asked: bool) -> DoctorFinding:
    """How one part stands.

    `is_missed`: it has been silent for so long that people are notified; `is_asked`: a consumer
    asks Prefect, which alone knows of workers.
    """
    name = f"{part.kind} · {part.host}" if part.host else part.kind
    since = f" since {part.since:%Y-%m-%d %H:%M} UTC" if part.since else ""
    if part.state == "works":
        return ok(name, f"works{since}")
    if part.state == "unknown":
        why, fix = _UNKNOWN[part.kind] if is_asked else _NOBODY_ASKS
        return warn(name, f"not known{since}: {why}", fix)
    if part.state == "stopped":
        return wrong(name, "none runs", _RESTART[part.kind])
    return (wrong if is_missed else warn)(name, f"silent{since}", _RESTART[part.kind])


MIN_FREE_BYTES = 1 << 30
FULL_BYTES = 1 << 20
BACKUP_DAYS = 8
CLOCK_WARN_SECONDS = 30.0


async def examine_database(settings: Settings, *, seconds: float = 10.0) -> list[DoctorFinding]:
    """What is wrong with the store of `settings`; nothing is made or changed there."""
    name = "database"
    if not is_there(settings.resolved_database_url):
        return [wrong(name, "there is none yet", "run `linekeeper migrate` (or `linekeeper up`)")]
    try:
        async with asyncio.timeout(seconds), Store.open(settings) as store:
            await require_current(store)
            async with store.write() as session:
                # Changes nothing, but needs what a change needs.
                await session.execute(update(Lease).where(false()).values({col(Lease.fence): 0}))
            kind = "SQLite" if store.is_sqlite else "PostgreSQL"
            backup = await _backup(store)
            clock = None if store.is_sqlite else await _clock(store)
    except TimeoutError:
        return [wrong(name, f"no answer within {seconds:g} s", "check LINEKEEPER_DATABASE_URL")]
    except KeyProblem as problem:
        return [wrong("encryption keys", str(problem), "put the right keys back")]
    except (StoreError, DBAPIError, OSError) as error:
        reported = error if isinstance(error, StoreError) else trouble_of(error)
        return [wrong(name, reported.text, reported.fix or "check LINEKEEPER_DATABASE_URL")]
    room = _room(settings)
    is_full = store.is_sqlite and room is not None and room.level == "wrong"
    written = "" if is_full else ", it can be written"  # tried in a transaction that is empty
    findings = [ok(name, f"{kind} answers, schema {head()}, our keys fit{written}")]
    others = (_key_file(settings), room, clock, backup)
    return findings + [finding for finding in others if finding]


async def _clock(store: Store) -> DoctorFinding:
    """How far this machine's clock is from the database's, by which leases and budget go."""
    async with store.read() as session:
        before = utcnow()
        theirs = await store.clock(session)
        ours = before + (utcnow() - before) / 2
    off = (ours - theirs).total_seconds()
    if abs(off) < CLOCK_WARN_SECONDS:
        return ok("clock", f"within {CLOCK_WARN_SECONDS:g} s of the database's")
    side = "ahead of" if off > 0 else "behind"
    said = f"this machine's is {abs(off):.0f} s {side} the database's"
    return wrong("clock", said, "synchronise both (NTP): the order of what is observed hangs on it")


async def _backup(store: Store) -> DoctorFinding | None:
    """When one was taken last; nothing while there is nobody to lose."""
    async with store.read() as session:
        known = await count_rows(session, Connection)
        taken = await session.scalar(
            select(func.max(col(Audit.at))).where(col(Audit.action) == "backup.taken")
        )
    if not known:
        return None
    fix = "run `linekeeper backup FILE` daily, and keep the file on another machine"
    if taken is None:
        return warn("backup", "none was taken yet", fix)
    days = (utcnow() - taken).days
    return (
        ok("backup", f"{counted(days, 'day')} old")
        if days <= BACKUP_DAYS
        else warn("backup", f"the last one is {counted(days, 'day')} old", fix)
    )


def _key_file(settings: Settings) -> DoctorFinding | None:
    file = settings.home / "encryption-keys"
    if settings.encryption_keys or not file.exists():
        return None
    if file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return warn("encryption keys", f"others may read {file}", f"chmod 600 {file}")
    return ok("encryption keys", f"in {file}; without it the tokens are lost: back it up")


def _room(settings: Settings) -> DoctorFinding | None:
    if not settings.home.exists():
        return None
    free = shutil.disk_usage(settings.home).free
    if free >= MIN_FREE_BYTES:
        return None
    text = f"{free >> 20} MiB are free at {settings.home}"
    if free < FULL_BYTES:
        return wrong("disk", text, "make room: what is written there is refused")
    return warn("disk", text, "make room before it is full")
