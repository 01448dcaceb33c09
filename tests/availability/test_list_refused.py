"""Makini's list can't be read: whether it is away, or refuses the list and answers all else."""

from datetime import datetime, timedelta

import pytest

from linekeeper.availability.decide import WaitedFor
from linekeeper.availability.service import read_month
from linekeeper.makini import ErrorKind, MakiniError
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Connection, Transition
from linekeeper.sweep.app import list_failed, list_worked
from tests.availability.test_product_away import MINUTE, NOW, rt

__all__ = ["rt"]  # a fixture


async def degraded(rt: Runtime, *, since: datetime) -> None:
    """A connection that answers, and whose sync is not well."""
    async with rt.store.write() as session:
        connection = Connection(
            app="default", makini_key="k", name="ECC", slug="ecc", provider="SAP", setup="live",
            health="degraded", created_at=NOW - timedelta(hours=5),
        )  # fmt: skip
        session.add(connection)
        await session.flush()
        turn = ("health", "healthy", "degraded")
        session.add(
            Transition(
                connection_id=connection.id, at=since, source="probe",
                **dict(zip(("axis", "before", "after"), turn, strict=True)),
            )
        )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "waited_for"),
    [
        (ErrorKind.forbidden, WaitedFor.unknown),
        (ErrorKind.unauthorized, WaitedFor.unknown),
        (ErrorKind.unavailable, WaitedFor.makini),
        (ErrorKind.network, WaitedFor.makini),
    ],
)
async def test_a_list_that_is_refused_says_nothing_of_a_connection_that_answers(
    rt: Runtime, kind: ErrorKind, waited_for: WaitedFor
) -> None:
    """Universe 14234: the minutes of a system that did not sync were said to be Makini's."""
    app = await rt.app("default")
    await degraded(rt, since=NOW - 60 * MINUTE)
    await list_failed(rt.store, app, MakiniError(kind, "no", app="default"), now=NOW - 40 * MINUTE)
    await list_worked(rt.store, app, now=NOW)
    [line] = (await read_month(rt.store, f"{NOW:%Y-%m}", now=NOW)).lines
    expected = {WaitedFor.unknown: 60, WaitedFor.makini: 0}
    if waited_for is WaitedFor.makini:
        expected = {WaitedFor.unknown: 20, WaitedFor.makini: 40}
    assert {each: round(line.minutes.get(each, 0)) for each in expected} == expected


async def test_of_a_list_that_failed_twice_within_the_hour_the_time_between_is_not_makinis(
    rt: Runtime,
) -> None:
    """It is one incident, which was reopened."""
    app = await rt.app("default")
    away = MakiniError(ErrorKind.unavailable, "no", app="default")
    await degraded(rt, since=NOW - 80 * MINUTE)
    for minutes in (60, 20):
        await list_failed(rt.store, app, away, now=NOW - minutes * MINUTE)
        await list_worked(rt.store, app, now=NOW - (minutes - 15) * MINUTE)
    [line] = (await read_month(rt.store, f"{NOW:%Y-%m}", now=NOW)).lines
    assert round(line.minutes[WaitedFor.makini]) == 30
    assert round(line.minutes[WaitedFor.unknown]) == 50


async def test_a_list_that_is_refused_after_it_was_away_leaves_the_outage_makinis(
    rt: Runtime,
) -> None:
    """Another trouble, and no reopening: each explains its own minutes."""
    app = await rt.app("default")
    await degraded(rt, since=NOW - 80 * MINUTE)
    for minutes, kind in ((60, ErrorKind.unavailable), (20, ErrorKind.forbidden)):
        error = MakiniError(kind, "no", app="default")
        await list_failed(rt.store, app, error, now=NOW - minutes * MINUTE)
        await list_worked(rt.store, app, now=NOW - (minutes - 15) * MINUTE)
    [line] = (await read_month(rt.store, f"{NOW:%Y-%m}", now=NOW)).lines
    assert round(line.minutes[WaitedFor.makini]) == 15
    assert round(line.minutes[WaitedFor.unknown]) == 65
