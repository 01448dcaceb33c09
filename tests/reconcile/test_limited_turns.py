"""Behind an entity that meets a long call limit the others are read once the pause is over."""

from datetime import timedelta

import pytest
from sqlalchemy import delete
from sqlmodel import col, select
from starlette.responses import JSONResponse

from linekeeper.runtime import Runtime
from linekeeper.store.tables import CallPause, Watermark
from tests.makini.peer import Peer
from tests.reconcile.answering import server
from tests.reconcile.conftest import ENTITIES, run
from tests.reconcile.test_limited import answer_all, rt

__all__ = ["rt", "server"]

PAUSE = timedelta(hours=1)
BETWEEN_RUNS = timedelta(minutes=15)
_SHIFTED = ("polled_at", "run_at", "moved_at", "full_at", "failing_since", "retry_at", "confirm_at")


async def later(rt: Runtime, by: timedelta) -> None:
    """Everything that is known is as if it had been so much earlier."""
    async with rt.store.write() as session:
        for mark in await session.scalars(select(Watermark)):
            for name in _SHIFTED:
                if (at := getattr(mark, name)) is not None:
                    setattr(mark, name, at - by)
        for pause in await session.scalars(select(CallPause)):
            pause.until -= by
            pause.refused_at -= by


async def read(rt: Runtime) -> set[str]:
    async with rt.store.read() as session:
        polled = select(col(Watermark.entity)).where(col(Watermark.polled_at).is_not(None))
        return set(await session.scalars(polled))


@pytest.mark.parametrize("which", range(len(ENTITIES)))
async def test_the_others_are_read_once_the_pause_is_over(
    rt: Runtime, server: Peer, which: int
) -> None:
    limited = ENTITIES[which]
    async with rt.store.write() as session:
        await session.execute(delete(Watermark))
    answer_all(server, limited=[])
    after = {"Retry-After": str(int(PAUSE.total_seconds()))}
    refused = JSONResponse({"code": "RATE_LIMIT_EXCEEDED"}, 429, after)
    server.answer("GET", f"/api/{limited}", lambda _: refused)
    passed = timedelta()
    while len(await read(rt)) < len(ENTITIES) - 1:
        # A process of its own, which knows of no pause but by the database.
        async with Runtime.open(rt.settings.model_copy(update={"makini_per_minute": 600})) as own:
            await run(own, everything=False)
        await later(rt, BETWEEN_RUNS)
        passed += BETWEEN_RUNS
        assert passed <= PAUSE + 2 * BETWEEN_RUNS, await read(rt)
