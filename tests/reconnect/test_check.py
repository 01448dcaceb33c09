"""A lost login that is only reported: what needs no customer is tried before anybody is mailed."""

from typing import Any

import orjson
import pytest

from linekeeper.clock import utcnow
from linekeeper.consumer.connection_events import process_connection_events
from linekeeper.inbox.identify import identify, make_delivery
from linekeeper.inbox.intake import Intake
from linekeeper.inbox.kinds import EventNames
from linekeeper.reconnect.ask import advance_case
from linekeeper.reconnect.check import check_reported
from linekeeper.store import new_id
from linekeeper.store.tables import ConnectLink
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
    open_house: Opened, post: tuple[Post, str]
) -> None:
    """All logins work; of the second to the sixth it is said while the first is being checked."""
    mailbox, url = post
    house = await asking(open_house, url)
    await house.sweep()
    first, *others = await house.connections()
    await said(house, first.makini_key)
    [incident] = await house.incidents()
    looked_at = await check_reported(house.rt, incident.id, now=utcnow())
    for connection in others:
        await said(house, connection.makini_key)
    for incident in await house.incidents():
        await advance_case(house.rt, incident.id, now=utcnow(), looked_at=looked_at)
    assert await house.rows(ConnectLink) == []
    await work(house)
    assert {connection.health for connection in await house.connections()} == {"healthy"}
    assert mailbox.mails == []
    assert await house.rows(ConnectLink) == []
