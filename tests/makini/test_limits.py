"""What Makini says of its limit is shown, and obeyed before it has to refuse."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from sqlalchemy import select
from starlette.responses import JSONResponse

from linekeeper.budget import DatabaseBudget
from linekeeper.makini import MakiniClient
from linekeeper.makini.bucket_row import stated_in_words
from linekeeper.makini.budget import StatedLimit, closed_until, stated_limit
from linekeeper.spending import read_spent
from linekeeper.store import Store
from linekeeper.store.tables import AppState, CallPause
from tests.makini.peer import Peer

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = 86_400
SOON = NOW + timedelta(seconds=20)
CURRENT = "/api/integrations/current"
Connect = Callable[..., MakiniClient]


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ({}, None),
        ({"x-ratelimit-limit": "300"}, None),
        ({"x-ratelimit-remaining": "many"}, None),
        ({"x-ratelimit-remaining": "-1"}, None),
        ({"x-ratelimit-remaining": "7"}, StatedLimit(7)),
        ({"ratelimit-remaining": "7", "ratelimit-limit": "300, 300;w=60"}, StatedLimit(7, 300)),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "20"}, StatedLimit(0, None, SOON)),
        (
            {"x-ratelimit-remaining": "0", "x-ratelimit-reset": f"{SOON.timestamp():.0f}"},
            StatedLimit(0, None, SOON),
        ),
        (
            {"x-ratelimit-remaining": "0", "x-ratelimit-reset": format_datetime(SOON, usegmt=True)},
            StatedLimit(0, None, SOON),
        ),
        # By the clock of whoever answers, which may be a day from ours.
        (
            {
                "x-ratelimit-remaining": "0",
                "x-ratelimit-reset": f"{SOON.timestamp() + DAY:.0f}",
                "date": format_datetime(NOW + timedelta(seconds=DAY), usegmt=True),
            },
            StatedLimit(0, None, SOON),
        ),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "9" * 30}, StatedLimit(0)),
    ],
)
def test_a_limit_is_read_however_it_is_written(
    headers: dict[str, str], wanted: StatedLimit | None
) -> None:
    assert stated_limit(headers, NOW) == wanted


def test_no_more_than_a_minute_is_waited_for_and_nothing_without_an_end() -> None:
    later = NOW + timedelta(hours=1)
    assert closed_until(StatedLimit(0, None, SOON), NOW) == SOON
    assert closed_until(StatedLimit(0, None, later), NOW) == NOW + timedelta(minutes=1)
    for stated in (StatedLimit(0), StatedLimit(1, None, SOON), StatedLimit(0, None, NOW)):
        assert closed_until(stated, NOW) is None


async def test_where_nothing_is_left_the_connection_waits_and_nothing_counts_as_refused(
    store: Store, peer: Peer, connect: Connect
) -> None:
    ends = time.time() + 3_000  # at most a minute of it is believed
    said = {
        "X-RateLimit-Limit": "300",
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": f"{ends:.0f}",
    }
    good = {"data": {"id": "7", "sync_status": "done"}}
    peer.answer("GET", CURRENT, lambda _: JSONResponse(good, 200, said))
    budget = DatabaseBudget(store)
    makini = connect(budget=budget, per_minute=600)
    await makini.status("token-of-acme", connection="acme")
    async with store.read() as session:
        [pause] = await session.scalars(select(CallPause))
    assert pause.connection == "acme"
    assert timedelta(0) < pause.until - pause.refused_at <= timedelta(minutes=1)
    await budget.take(makini.app.name, 600, connection="globex")
    await budget.flush()
    async with store.read() as session:
        [state] = await session.scalars(select(AppState))
        spent = await read_spent(session, now=await store.clock(session))
    assert "0 calls of 300 left" in stated_in_words(state.budget)
    assert sum(part.refused for parts in spent.values() for part in parts) == 0
