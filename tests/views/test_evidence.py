"""What is said of a fleet that was only listed, and of one whose logins were verified."""

from collections.abc import AsyncIterator

import pytest
from rich.console import Console
from sqlalchemy import select, update
from sqlmodel import col

import sandbox
from linekeeper.cli.status import _shown, look_at
from linekeeper.clock import utcnow
from linekeeper.incidents.news import since
from linekeeper.notify.home import home, read_own
from linekeeper.notify.view import FROM_A_PAGE, Links
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Connection, Customer
from linekeeper.views.connection_page import connection_markdown
from linekeeper.views.connections_page import pages, read_rows
from linekeeper.views.evidence import evidence_sentence
from linekeeper.views.fleet_page import fleet_headline, fleet_markdown
from linekeeper.views.fleet_queries import connection_reports, fleet_report
from linekeeper.views.gauges import exposition, read_gauges
from tests.health.conftest import fleet, rt
from tests.health.test_sweep import sweep

__all__ = ["fleet", "rt"]  # fixtures


@pytest.fixture
async def watcher(rt: Runtime) -> AsyncIterator[Runtime]:
    """The same fleet in observe."""
    observing = rt.settings.model_copy(update={"makini_mode": "observe"})
    async with Runtime.open(observing) as runtime:
        yield runtime


async def page(rt: Runtime) -> tuple[str, str]:
    report = await fleet_report(rt.store, await rt.configuration(), now=utcnow())
    return fleet_headline(report), fleet_markdown(report, Links(FROM_A_PAGE))


async def status(rt: Runtime) -> str:
    console = Console(width=200, highlight=False)
    with console.capture() as captured:
        console.print(_shown(await look_at(rt)))
    return captured.get()


async def metrics(rt: Runtime) -> str:
    gauges = await read_gauges(rt.store, await rt.configuration(), now=utcnow())
    return exposition(gauges).decode()


async def test_a_fleet_that_was_only_listed_is_not_called_healthy(
    watcher: Runtime, fleet: sandbox.Served
) -> None:
    started = utcnow()
    await sweep(watcher)
    headline, markdown = await page(watcher)
    assert headline == (
        "No trouble known of 12 connections: 12 listed as active, 0 verified by a read"
    )
    assert "12 listed as active, 0 verified by a read" in markdown
    assert "· 📋 12 Listed as active" in markdown
    assert "12 connections: 0 healthy, 12 listed as active" in markdown
    assert "tokens (`linekeeper tokens import`)" in markdown
    assert "which may end those that your product has" in markdown
    seen = await status(watcher)
    assert "12 listed as active, 0 verified by a read" in seen
    assert "12 connections of 11 customers: 12 Listed as active\n" in seen
    figures = await metrics(watcher)
    assert 'linekeeper_connections_evidence{app="default",evidence="listed"} 12.0' in figures
    looked = await since(watcher.store, started)
    assert (looked.checked, looked.listed) == (0, 12)


async def test_a_connection_that_was_only_listed_is_nowhere_called_healthy(
    watcher: Runtime, fleet: sandbox.Served
) -> None:
    await sweep(watcher)
    rows = await read_rows(watcher.store)
    [part] = pages(rows, Links(), utcnow())
    assert "Healthy" not in part
    assert part.count("📋 Listed as active: **") == 12
    [report] = await connection_reports(
        watcher.store, await watcher.configuration(), [rows[0].id], now=utcnow()
    )
    page = connection_markdown(report, Links(FROM_A_PAGE))
    assert page.startswith(f"# 📋 {rows[0].name}: Listed as active\n")
    assert "Nothing is wrong" not in page
    assert "Whether its login works was not asked" in page
    async with watcher.store.write() as session:
        await session.execute(update(Customer).values(owner="Petra Novak <U0PETRANOVAK>"))
    own, customers = await read_own(watcher.store, "U0PETRANOVAK")
    shown = str(home(own, customers, now=utcnow(), fleet=None))
    assert "No trouble is known; 12 of them are only listed as active by Makini." in shown


async def test_what_was_asked_and_what_was_read_are_told_apart(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    started = utcnow()
    await sweep(rt)
    looked = await since(rt.store, started)
    assert (looked.checked, looked.listed) == (12, 0)
    headline, markdown = await page(rt)
    assert headline == "All 12 connections are healthy"
    assert "12 answered a status call, 0 verified by a read" in markdown
    async with rt.store.write() as session:
        one = await session.scalar(select(col(Connection.id)).limit(1))
        await session.execute(
            update(Connection).where(col(Connection.id) == one).values(evidence="read")
        )
    assert "11 answered a status call, 1 verified by a read" in await status(rt)
    assert 'evidence="read"} 1.0' in await metrics(rt)


@pytest.mark.parametrize(
    ("evidence", "sentence"),
    [
        ({}, ""),
        ({"listed": 600}, "600 listed as active, 0 verified by a read"),
        ({"read": 1_200}, "1,200 verified by a read"),
        (
            {"listed": 2, "probed": 3, "read": 4},
            "2 listed as active, 3 answered a status call, 4 verified by a read",
        ),
    ],
)
def test_the_sentence(evidence: dict[str, int], sentence: str) -> None:
    assert evidence_sentence(evidence) == sentence
