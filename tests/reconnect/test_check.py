"""A lost login that is only reported: what needs no customer is tried before anybody is mailed."""

import asyncio
from datetime import timedelta
from typing import Any

import orjson
import pytest
from sqlmodel import col

import sandbox
from linekeeper.clock import utcnow
from linekeeper.consumer.connection_events import process_connection_events
from linekeeper.inbox.identify import identify, make_delivery
from linekeeper.inbox.intake import Intake
from linekeeper.inbox.meaning import EventNames
from linekeeper.notify.evaluate import evaluate_alerts
from linekeeper.outbox.senders.reconnect import ReconnectSender, advance_due_cases
from linekeeper.store import new_id
from linekeeper.store.tables import ConnectLink, IncidentConnection
from tests.reconnect.conftest import House
from tests.reconnect.post import Post
from tests.reconnect.test_ask import Opened, asking, post, work

__all__ = ["post"]  # a fixture

REQUIRED = "connection.auth_required"


async def said(house: House, makini_key: str) -> None:
    """Makini says that the login of a connection is lost, and the consumer applies it."""
    rt, now = house.rt, utcnow()
    app = await rt.app("default")
    body: dict[str, Any] = {
        "event": REQUIRED,
        "id": new_id(),
        "connection_id": makini_key,
        "timestamp": now.isoformat(),
    }
    raw = orjson.dumps(body)
    names = EventNames(app.entities, app.event_kinds)
    identity = identify(app.name, names, {}, makini_key, raw, now=now)
    async with Intake.open(rt.store) as intake:
        await intake.store(make_delivery(new_id(), app.name, identity, raw, received_at=now))
    while await process_connection_events(rt):
        pass


async def test_nobody_is_mailed_where_the_login_works_after_all(
    open_house: Opened, post: tuple[Post, str]
) -> None:
    """B2: heal without the customer where possible, before the link and the mail."""
    mailbox, url = post
    house = await asking(open_house, url)
    await house.sweep()
    [connection, *_] = await house.connections()
    await said(house, connection.makini_key)
    assert (await house.connection(connection.id)).health == "reauthorization_required"
    await work(house)
    assert (await house.connection(connection.id)).health == "healthy"
    [incident] = await house.incidents()
    assert incident.status == "resolved"
    assert mailbox.mails == []
    assert await house.rows(ConnectLink) == []


@pytest.mark.parametrize("is_lost", [False, True])
async def test_nobody_is_notified_before_it_is_known_whether_the_login_works(
    open_house: Opened, post: tuple[Post, str], is_lost: bool
) -> None:
    _, url = post
    house = await asking(open_house, url)
    await house.sweep()
    [connection, *_] = await house.connections()
    if is_lost:
        await house.control(f"connections/{connection.makini_key}/change-credentials")
    await said(house, connection.makini_key)
    [incident] = await house.incidents()
    assert await firsts(house) == []
    await work(house)
    assert await firsts(house) == ([incident.id] if is_lost else [])
    [incident] = await house.incidents()
    assert (incident.resolved_at is None) is is_lost


async def test_what_nobody_checks_is_announced_all_the_same(
    open_house: Opened, post: tuple[Post, str]
) -> None:
    _, url = post
    house = await asking(open_house, url)
    await house.sweep()
    [connection, *_] = await house.connections()
    await said(house, connection.makini_key)
    [incident] = await house.incidents()
    assert await firsts(house) == []
    assert await firsts(house, later=timedelta(seconds=16)) == [incident.id]


async def firsts(house: House, *, later: timedelta = timedelta()) -> list[str]:
    """The incidents of which somebody is notified for the first time now."""
    configuration = await house.rt.configuration()
    decision = await evaluate_alerts(house.rt.store, configuration, now=utcnow() + later)
    return [say.incident_id for say in decision.say if say.step.kind == "first"]


async def test_nor_where_the_link_of_an_earlier_loss_still_works(
    open_house: Opened, post: tuple[Post, str]
) -> None:
    """The old password worked again, so that nobody used that link."""
    mailbox, url = post
    house = await asking(open_house, url)
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    await work(house)
    await house.control(f"connections/{connection.makini_key}/restore-credentials")
    await house.sweep()
    await work(house)
    assert (await house.connection(connection.id)).health == "healthy"
    before = len(mailbox.mails)
    await said(house, connection.makini_key)
    assert (await house.connection(connection.id)).health == "reauthorization_required"
    await work(house)
    assert (await house.connection(connection.id)).health == "healthy"
    assert [each["Subject"] for each in mailbox.mails[before:] if "log in" in each["Subject"]] == []


@pytest.mark.parametrize("how", ["change-credentials", "500"])
async def test_the_customer_is_mailed_where_it_is_lost_or_nobody_knows(
    open_house: Opened, post: tuple[Post, str], how: str
) -> None:
    mailbox, url = post
    house = await asking(open_house, url)
    await house.sweep()
    [connection, *_] = await house.connections()
    if how == "500":
        house.fleet.world.faults.status = "500"
    else:
        await house.control(f"connections/{connection.makini_key}/change-credentials")
    await said(house, connection.makini_key)
    await work(house)
    assert (await house.connection(connection.id)).health == "reauthorization_required"
    assert len(mailbox.mails) == 1
    assert len(await house.rows(ConnectLink)) == 1


async def test_who_joins_while_another_is_asked_is_not_mailed_before_being_asked(
    open_house: Opened, post: tuple[Post, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All logins work; of the sixth it is said while Makini is slow to say how the first is."""
    mailbox, url = post
    house = await asking(open_house, url)
    await house.sweep()
    first, *others, last = await house.connections()
    is_asked, may_answer = asyncio.Event(), asyncio.Event()

    async def delay(connection: sandbox.fleet.Connection) -> None:
        if connection.slow_seconds:
            is_asked.set()
            await may_answer.wait()

    monkeypatch.setattr("sandbox.status.delay", delay)
    # This machine may be slow too.
    monkeypatch.setattr("linekeeper.reconnect.check.SECONDS", 600.0)
    monkeypatch.setattr(ReconnectSender, "deadline_seconds", 600.0)
    house.fleet.world.connections[first.makini_key].slow_seconds = 1.0
    for connection in (first, *others):
        await said(house, connection.makini_key)
    working = asyncio.create_task(advance_due_cases(house.rt))
    async with asyncio.timeout(120):
        await is_asked.wait()
    await said(house, last.makini_key)
    [incident] = [one for one in await house.incidents() if one.resolved_at is None]
    joined = await house.rows(IncidentConnection, col(IncidentConnection.left_at).is_(None))
    assert {row.incident_id for row in joined} == {incident.id}
    assert last.id in {row.connection_id for row in joined}
    may_answer.set()
    await working
    assert await house.rows(ConnectLink) == []
    await work(house)
    assert {connection.health for connection in await house.connections()} == {"healthy"}
    assert mailbox.mails == []
    assert await house.rows(ConnectLink) == []
