"""A kept login of which Makini's event says that it is lost again, and its late status that it is
not: a read decides."""

import hashlib
import hmac
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import orjson
import pytest
from pydantic import SecretStr

from linekeeper.access.verify import verify_logins
from linekeeper.clock import utcnow
from linekeeper.consumer.connection_events import process_connection_events
from linekeeper.store.tables import Connection, PendingLogin
from tests.inbox.process.stage import about
from tests.receiver.test_kept_login import logged_in_while_it_was_away, message
from tests.reconnect.conftest import House, open_house

__all__ = ["open_house"]  # a fixture

Opened = Callable[..., Awaitable[House]]


async def kept(open_house: Opened) -> tuple[House, Connection, datetime]:
    """A house with a kept login, whose connection, and when it came; its system is back."""
    house = await open_house(makini_webhook_secrets=(SecretStr("s3cret"),))
    connection, _ = await logged_in_while_it_was_away(house)
    await house.control(f"connections/{connection.makini_key}/come-online")
    [login] = await house.rows(PendingLogin)
    return house, connection, login.received_at


async def said_lost(house: House, connection: Connection, at: datetime | None) -> None:
    """Makini's event, which it dates `at`, by its way to the end."""
    event = about(connection, "connection.auth_required", at or utcnow())
    if at is None:
        del event["timestamp"]
    body = orjson.dumps(event)
    headers = {"x-webhook-signature": hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()}
    answer = await house.http.post("/webhooks/default", content=body, headers=headers)
    assert answer.status_code == 200
    while await process_connection_events(house.rt):
        pass


async def verify(house: House) -> None:
    await verify_logins(house.rt, now=utcnow() + timedelta(seconds=90))
    assert await house.rows(PendingLogin) == []


async def lose_unseen(house: House, connection: Connection) -> None:
    """The login is lost, and Makini's status does not know yet."""
    await house.control(f"connections/{connection.makini_key}/change-credentials")
    found = house.fleet.world.find(connection.makini_key)
    assert found is not None
    found.lagging_status = "done"


@pytest.mark.parametrize("dated", ["now", "before the last look", "not at all"])
async def test_the_event_of_a_later_loss_outranks_makinis_status(
    open_house: Opened, dated: str
) -> None:
    """Universe 5 of `relost`: Slack said that all was resolved, and three seconds later again that
    it is not."""
    house, connection, login_at = await kept(open_house)
    await lose_unseen(house, connection)
    # The last look came after the login, and the system did not answer.
    within = login_at + timedelta(milliseconds=1)
    await said_lost(
        house,
        connection,
        {"now": utcnow(), "before the last look": within, "not at all": None}[dated],
    )
    await verify(house)
    assert (await house.connection(connection.id)).health == "reauthorization_required"
    assert "RESOLVED" not in await message(house)

    await house.sweep()
    held = await house.connection(connection.id)
    assert (held.health, held.evidence) == ("reauthorization_required", "read")
    await house.restore_login(connection)
    assert (await house.connection(connection.id)).health == "healthy"
    assert "RESOLVED" in await message(house)


async def test_a_late_event_of_the_loss_before_does_not_hold_up_a_login_that_works(
    open_house: Opened,
) -> None:
    house, connection, login_at = await kept(open_house)
    await said_lost(house, connection, login_at - timedelta(seconds=1))
    await verify(house)
    assert (await house.connection(connection.id)).health == "healthy"
    assert "RESOLVED" in await message(house)


async def test_one_without_a_time_holds_it_up_until_a_read_that_the_next_sweep_makes(
    open_house: Opened,
) -> None:
    house, connection, _ = await kept(open_house)
    await said_lost(house, connection, None)
    await verify(house)
    assert "RESOLVED" not in await message(house)
    await house.sweep()
    held = await house.connection(connection.id)
    assert (held.health, held.evidence) == ("healthy", "read")
    assert "RESOLVED" in await message(house)
