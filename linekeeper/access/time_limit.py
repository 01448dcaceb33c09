"""A person waits for a login no longer than it takes to see how it goes; the login is not hurried.

An exchanged code can't be given back, so what was begun ends though nobody looks on any more.
"""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any

from linekeeper.access.ending import Ending
from linekeeper.access.pending import kept_login
from linekeeper.runtime import Runtime
from linekeeper.store.tables import ConnectLink

ANSWER_WITHIN = 10.0
"""How many seconds a person waits for a page; what is not known by then goes on without them."""


async def ended_soon(
    rt: Runtime,
    name: str,
    attempt: Callable[[], Coroutine[Any, Any, Ending]],
    *,
    link: ConnectLink,
    url: str | None,
    now: datetime,
) -> Ending:
    """How `attempt` with `link`, begun `now`, ended, or that it goes on (`checking`).

    It goes on also where the caller is cancelled. `name` is that of the task that does it.
    """
    work = asyncio.create_task(rt.store.owned.run(name, attempt))
    try:
        await asyncio.wait({work}, timeout=ANSWER_WITHIN)
        return work.result() if work.done() else await _unfinished(rt, link, url, now)
    finally:
        work.cancel()


async def _unfinished(rt: Runtime, link: ConnectLink, url: str | None, now: datetime) -> Ending:
    """Makini takes its time; whether it has given a pair yet, which is kept then."""
    async with rt.store.read() as session:
        kept = await kept_login(session, link)
    is_kept = kept is not None and kept.at >= now
    return Ending("checking", link.system, connect_url=url, is_kept=is_kept)
