"""A shared quota: who spent what of it is counted, and shown wherever the fleet is."""

from datetime import timedelta

import pytest
from sqlalchemy import delete, select, update
from sqlmodel import col

import sandbox
from linekeeper.clock import utcnow
from linekeeper.notify.view import FROM_A_PAGE, Links
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.spending import KEPT, Spent
from linekeeper.store.tables import AppState, CallCount, CallPause
from linekeeper.sweep.report_call import Call, record_call
from linekeeper.tokens.renew import renew
from linekeeper.views.fleet_page import fleet_markdown
from linekeeper.views.fleet_queries import fleet_report
from linekeeper.views.gauges import exposition, read_gauges
from linekeeper.views.glance import glance
from tests.health.conftest import fleet
from tests.health.test_sweep import connections, sweep
from tests.managed import managed

__all__ = ["fleet"]


@pytest.fixture
def limited(settings: Settings, fleet: sandbox.Served) -> Settings:
    """A fleet of twelve, managed, with a limit of 6,000 calls a minute of which half is ours."""
    return managed(settings, fleet.url, makini_per_minute=6_000, makini_share=0.5)


async def spent(rt: Runtime) -> dict[str, Spent]:
    seen = await glance(rt.store, await rt.configuration(), now=utcnow())
    return {part.purpose: part for part in seen.apps["default"].spent}


async def test_who_spent_what_is_counted_and_shown(limited: Settings) -> None:
    async with Runtime.open(limited) as rt:
        await sweep(rt)
        app, [first, *_] = await rt.app("default"), await connections(rt)
        await renew(
            rt.store,
            rt.makini(app),
            app,
            connection_id=first.id,
            makini_ref=first.makini_key,
            refused=None,
            owner=rt.owner,
        )
        await record_call(rt, app, first.id, Call(status=429, at=utcnow()))
    async with Runtime.open(limited) as rt:  # another process: what the first counted is there
        seen = await spent(rt)
        assert seen["sweep"].day >= 13  # the list, and twelve states
        assert seen["tokens"].day >= 1
        assert (seen["product"].day, seen["product"].refused) == (1, 1)
        assert sum(part.refused for part in seen.values()) == 1
        async with rt.store.write() as session:
            for hour in sorted(set(await session.scalars(select(CallCount.hour)))):
                earlier = hour - timedelta(hours=1)
                await session.execute(
                    update(CallCount).where(col(CallCount.hour) == hour).values(hour=earlier)
                )
            # As if the minute were over in which half of the pace is the product's.
            await session.execute(update(AppState).values(budget={}))
            await session.execute(delete(CallPause))
        await sweep(rt)
        await rt.budget.flush()
        now, configuration = utcnow(), await rt.configuration()
        again = await spent(rt)
        assert again["sweep"].this_hour >= 13
        assert again["sweep"].day == seen["sweep"].day + again["sweep"].this_hour
        assert again["tokens"].this_hour == 0
        report = await fleet_report(rt.store, configuration, now=now)
        page = fleet_markdown(report, Links(FROM_A_PAGE))
        metrics = exposition(await read_gauges(rt.store, configuration, now=now)).decode()
    assert "default (at most 3,000 a minute)" in page
    assert "| product | 0 | 1 |" in page
    figure = f'purpose="sweep"}} {again["sweep"].this_hour}'
    assert f'linekeeper_makini_calls_hour{{app="default",{figure}' in metrics


async def test_no_more_than_a_week_is_kept(limited: Settings) -> None:
    async with Runtime.open(limited) as rt:
        await sweep(rt)
        await rt.budget.flush()
        async with rt.store.write() as session:
            old = utcnow() - KEPT - timedelta(hours=2)
            await session.execute(update(CallCount).values(hour=old))
        await sweep(rt)
        await rt.budget.flush()
        async with rt.store.read() as session:
            hours = set(await session.scalars(select(CallCount.hour)))
    assert len(hours) == 1
    assert old not in hours
