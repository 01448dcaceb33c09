"""Each part and work as `linekeeper status` shows it: how it stands, and since when."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from linekeeper.runtime import Runtime
from linekeeper.watch.decide import (
    PREFECT,
    WATCHERS,
    WORKERS,
    Part,
    WatchPolicy,
    examine,
    is_quiet,
    restarted,
)
from linekeeper.watch.queries import read_parts
from linekeeper.watch.service import policy_of
from linekeeper.watch.work import WORK

State = Literal["works", "silent", "stopped", "unknown", "done", "overdue"]
"""`stopped`: none of its kind runs; the last one ended in good order, or none ever began."""
_WATCHED_BY = {WORKERS: PREFECT, PREFECT: "consumer"}
"""Parts of which only others know: Prefect is known to the consumer, workers to Prefect."""
_ORDER = (*WATCHERS, WORKERS, PREFECT, *WORK)


@dataclass(frozen=True, slots=True)
class PartStanding:
    """One part, or work that comes by."""

    name: str
    kind: str
    host: str
    state: State
    since: datetime | None
    """Since when it works, is silent, or nobody can say; when the work was last done. None where a
    worker works: Prefect has its name alone, which another process may have taken meanwhile."""


async def read_standing(rt: Runtime) -> list[PartStanding]:
    """How every part stands now, by the database's clock."""
    policy = policy_of(rt, await rt.configuration())
    async with rt.store.read() as session:
        now = await rt.store.clock(session)
        parts = await read_parts(session, now=now)
    return stand(parts, policy, now=now)


def stand(parts: Iterable[Part], policy: WatchPolicy, *, now: datetime) -> list[PartStanding]:
    """How each of `parts` stands at `now`; those that others took the place of are left out."""
    parts = list(parts)
    seen = examine(parts, policy, now=now)
    overdue = {trouble.cause for trouble in seen.troubles if trouble.kind == "work_overdue"}
    last = {part.kind: part for part in sorted(parts, key=lambda part: part.at)}

    def at(part: Part, state: State, since: datetime | None) -> PartStanding:
        return PartStanding(part.name, part.kind, part.host, state, since)

    def is_unknown(watcher: Part) -> bool:
        """Whether whoever would report `watcher` was ended in good order."""
        return watcher.kind in _WATCHED_BY and _WATCHED_BY[watcher.kind] not in last

    def stands(part: Part) -> PartStanding:
        if part.kind in WORK:
            return at(part, "overdue" if f"work:{part.kind}" in overdue else "done", part.at)
        if part.name in seen.silent:
            return at(part, "silent", part.at)
        as_of = now
        if part.kind in _WATCHED_BY:
            watcher = last.get(_WATCHED_BY[part.kind])
            if watcher is None or is_unknown(watcher):
                return at(part, "unknown", part.at)
            if is_quiet(watcher, policy, now=now):
                return at(part, "unknown", watcher.at)
            as_of = watcher.at
        if is_quiet(part, policy, now=as_of):
            return at(part, "silent", part.at)
        return at(part, "works", None if part.kind == WORKERS else part.since)

    replaced = {*seen.forgotten, *restarted(parts, policy, now=now)}
    standing = [stands(part) for part in parts if part.kind in _ORDER and part.name not in replaced]
    if any(part.kind in _ORDER and part.kind != "backup" for part in parts):
        missing = [kind for kind in WATCHERS if kind not in last]
        standing += [PartStanding(kind, kind, "", "stopped", None) for kind in missing]
    return sorted(standing, key=lambda each: (_ORDER.index(each.kind), each.name))
