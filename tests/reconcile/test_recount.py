"""A record that comes or goes without a new time of change is found long before the week is over.

What changed since the watermark never shows it; the source's own total does.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update
from sqlmodel import col, select
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from linekeeper.clock import utcnow
from linekeeper.reconcile.completeness import completeness_of
from linekeeper.reconcile.entity_incidents import entity_states
from linekeeper.reconcile.policy import POLICY
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Record, Watermark
from linekeeper.store.types import table_of
from tests.makini.peer import Peer, Seen
from tests.reconcile.answering import ASSETS, rt, server
from tests.reconcile.conftest import feed, run
from tests.reconcile.test_listings import artifact, assets, live, mark, open_incidents, whole

__all__ = ["rt", "server"]
SINCE = "filter[updatedAt:gteq]"


async def later(rt: Runtime, time: timedelta) -> None:
    """So much time passes for what is known of the entity."""
    kept = await mark(rt)
    names = (
        "polled_at",
        "moved_at",
        "run_at",
        "full_at",
        "compared_at",
        "counted_at",
        "confirm_at",
    )
    earlier = {n: at - time for n in names if (at := getattr(kept, n)) is not None}
    async with rt.store.write() as session:
        await session.execute(update(table_of(Watermark)).values(**earlier))
        for record in await session.scalars(select(Record)):
            record.seen_at -= time
            record.absent_since = record.absent_since and record.absent_since - time


def listings(server: Peer) -> Sequence[Seen]:
    """The calls that list everything."""
    calls = server.asked(ASSETS)
    return [c for c in calls if SINCE not in c.parameters and ("per_page", "1") not in c.query]


async def hours(rt: Runtime, count: float) -> None:
    """Runs of the schedule, one every half an hour."""
    for _ in range(int(count * 2)):
        await later(rt, timedelta(minutes=30))
        await run(rt, everything=False)


@pytest.mark.parametrize("change", ["came", "went"])
async def test_a_record_that_comes_or_goes_with_an_old_time_is_found_within_hours(
    rt: Runtime, server: Peer, change: str
) -> None:
    everything = assets(20)
    server.answer("GET", ASSETS, whole(everything))
    await run(rt)
    imported = {"key": "old", "updatedAt": everything[10]["updatedAt"]}
    now: list[dict[str, Any]] = [*everything, imported] if change == "came" else everything[1:]
    server.answer("GET", ASSETS, whole(now))
    await hours(rt, 7)
    assert await live(rt) == {row["key"] for row in now}
    expected = [("inserted", "old")] if change == "came" else [("deleted", "a000")]
    assert [(each.op, each.key) for each in await feed(rt)] == expected
    server.seen.clear()
    await hours(rt, 7)
    assert not listings(server)  # the numbers agree again


async def test_the_number_is_asked_for_four_times_a_day_and_a_quiet_source_not_listed(
    rt: Runtime, server: Peer
) -> None:
    server.answer("GET", ASSETS, whole(assets(20)))
    await run(rt)
    server.seen.clear()
    await hours(rt, 24)
    counts = [call for call in server.asked(ASSETS) if ("per_page", "1") in call.query]
    assert len(counts) in (3, 4)
    assert not listings(server)
    assert (await mark(rt)).count_difference == 0


AGAIN = pytest.mark.repeats(
    "reconcile/test_recount.py"
    "::test_a_source_that_answers_no_such_question_is_read_all_the_same_and_seldom_asked"
)


@pytest.mark.parametrize(
    "status", [401, *(pytest.param(each, marks=AGAIN) for each in (403, 404, 422, 500))]
)
async def test_a_source_that_answers_no_such_question_is_read_all_the_same_and_seldom_asked(
    rt: Runtime, server: Peer, status: int
) -> None:
    everything = assets(20)
    server.answer("GET", ASSETS, whole(everything))
    await run(rt)
    listing = whole([*everything, {"key": "new", "updatedAt": utcnow().isoformat()}])

    def answer(request: Request) -> Response:
        refused = request.query_params.get("per_page") == "1"
        return JSONResponse({}, status_code=status) if refused else listing(request)

    server.answer("GET", ASSETS, answer)
    server.seen.clear()
    await hours(rt, 24)
    assert "new" in await live(rt)
    counts = [call for call in server.asked(ASSETS) if ("per_page", "1") in call.query]
    assert len(counts) in (3, 4)
    assert not listings(server)
    assert not await open_incidents(rt)


async def test_what_changed_in_the_ordinary_way_is_no_difference(rt: Runtime, server: Peer) -> None:
    everything = assets(20)
    server.answer("GET", ASSETS, whole(everything))
    await run(rt)
    await later(rt, timedelta(hours=7))
    fresh = {"key": "new", "updatedAt": (await mark(rt)).polled_at.isoformat()}
    server.answer("GET", ASSETS, whole([*everything, fresh]))
    await run(rt, everything=False)
    assert "new" in await live(rt)
    assert (await mark(rt)).count_difference == 0


async def test_a_total_that_always_counted_otherwise_lists_nothing_again(
    rt: Runtime, server: Peer
) -> None:
    """As many more than are listed as ever: it counts what this login may not see."""
    server.answer("GET", ASSETS, whole(assets(20), total=25))
    await run(rt)
    await run(rt, full=True)
    server.seen.clear()
    await hours(rt, 20)
    assert not listings(server)


async def test_until_all_is_listed_again_the_pages_say_that_the_numbers_differ(
    rt: Runtime, server: Peer
) -> None:
    everything = assets(20)
    server.answer("GET", ASSETS, whole(everything))
    await run(rt)
    async with rt.store.write() as session:  # an entity so large that a week is its measure
        await session.execute(
            update(Watermark)
            .where(col(Watermark.entity) == "eam/assets")
            .values(source_total=80_000, indexed=80_000)
        )
    server.answer("GET", ASSETS, whole([*everything, {"key": "old", "updatedAt": "2020-01-01"}]))
    await hours(rt, 13)
    assert "old" not in await live(rt)
    assert "1 record came to the source without a new time of change" in await artifact(rt)
    (state,) = await entity_states(rt.store)
    assert (completeness_of(state).state, completeness_of(state).unknown) == (
        "unknown",
        ("recounted",),
    )


@pytest.mark.parametrize(
    ("records", "days"), [(0, 0.25), (2_000, 0.25), (10_000, 1.0), (30_000, 3.0), (900_000, 7.0)]
)
def test_the_larger_an_entity_the_seldomer_it_is_listed_for_its_number(
    records: int, days: float
) -> None:
    assert POLICY.relist_apart(records) == timedelta(days=days)
