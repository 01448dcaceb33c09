"""Each part and work as `linekeeper status` shows it: how it stands, and since when."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from linekeeper.runtime import Runtime
from linekeeper.watch.decide import (
    PREFECT,
    WATCHERS,
    WORK,
    WORKERS,
    Part,
    WatchPolicy,
    examine,
    is_quiet,
)
from linekeeper.watch.queries import read_parts
from linekeeper.watch.service import policy_of

State = Literal["works", "silent", "done", "overdue"]
_ORDER = (*WATCHERS, WORKERS, PREFECT, *WORK)


@dataclass(frozen=True, slots=True)
class Standing:
    """One part, or work that comes by."""

    name: str
    kind: str
    host: str
    state: State
    since: datetime
    """Since when it works or is silent; when the work was last done."""


async def read_standing(rt: Runtime) -> list[Standing]:
    """How every part stands now, by the database's clock."""
    policy = policy_of(rt, await rt.configuration())
    async with rt.store.read() as session:
        now = await rt.store.clock(session)
        parts = await read_parts(session)
    return stand(parts, policy, now=now)


def stand(parts: Iterable[Part], policy: WatchPolicy, *, now: datetime) -> list[Standing]:
    """How each of `parts` stands at `now`; those that others took the place of are left out."""
    parts = list(parts)
    seen = examine(parts, policy, now=now)
    overdue = {trouble.cause for trouble in seen.troubles if trouble.kind == "work_overdue"}
    standing = []
    for part in parts:
        if part.kind not in _ORDER or part.name in seen.forgotten:
            continue
        if part.kind in WORK:
            state: State = "overdue" if f"work:{part.kind}" in overdue else "done"
            standing.append(Standing(part.name, part.kind, part.host, state, part.at))
        elif part.name in seen.silent or is_quiet(part, policy, now=now):
            standing.append(Standing(part.name, part.kind, part.host, "silent", part.at))
        else:
            standing.append(Standing(part.name, part.kind, part.host, "works", part.since))
    return sorted(standing, key=lambda each: (_ORDER.index(each.kind), each.name))
