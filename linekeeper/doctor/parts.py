"""The parts of Linekeeper: who was heard of, and since when each works."""

from sqlalchemy import select
from sqlmodel import col

from linekeeper.doctor.finding import Finding, ok, warn, wrong
from linekeeper.runtime import Runtime
from linekeeper.store.leases import CONSUMER
from linekeeper.store.tables import Lease
from linekeeper.watch.decide import PREFECT, WATCHERS, WORKERS, Part, examine
from linekeeper.watch.queries import read_parts
from linekeeper.watch.service import policy_of

_RESTART = {
    "consumer": "start it: linekeeper consumer",
    "receiver": "start it: linekeeper receiver",
    "worker": "start it: prefect worker start --pool linekeeper",
    "prefect": "restart the Prefect server, or correct PREFECT_API_URL",
}


async def examine_parts(rt: Runtime) -> list[Finding]:
    """What the parts' own heartbeats say; nothing where none was ever heard of."""
    policy = policy_of(rt, await rt.configuration())
    async with rt.store.read() as session:
        now = await rt.store.clock(session)
        parts = await read_parts(session)
    seen = examine(parts, policy, now=now)
    findings = [
        wrong("overdue", trouble.text, "see the worker, the pool and the schedule above")
        for trouble in seen.troubles
        if trouble.kind == "work_overdue"
    ]
    for part in parts:
        if part.kind not in (*WATCHERS, WORKERS, PREFECT) or part.name in seen.forgotten:
            continue
        if part.name in seen.silent:
            findings.append(wrong(_name(part), _silent(part), _RESTART[part.kind]))
        elif now - part.at >= policy.after:
            findings.append(warn(_name(part), _silent(part), _RESTART[part.kind]))
        else:
            findings.append(ok(_name(part), f"works since {part.since:%Y-%m-%d %H:%M} UTC"))
    return [*findings, *await _leases(rt)]


async def _leases(rt: Runtime) -> list[Finding]:
    """What is under way: another run of the same work ends Skipped, or waits if asked by hand."""
    async with rt.store.read() as session:
        now = await rt.store.clock(session)
        held = await session.scalars(
            select(Lease)
            .where(col(Lease.until) > now, ~col(Lease.name).startswith(CONSUMER))
            .order_by(col(Lease.name))
        )
        return [
            ok(f"lease · {lease.name}", f"held by {lease.owner} until {lease.until:%H:%M:%S} UTC")
            for lease in held
        ]


def _name(part: Part) -> str:
    return part.kind if part.kind == PREFECT else f"{part.kind} · {part.host}"


def _silent(part: Part) -> str:
    return f"silent since {part.at:%Y-%m-%d %H:%M} UTC"
