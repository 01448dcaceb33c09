"""After a time in which nothing of Linekeeper ran, who is about to be written to is asked first."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest

from linekeeper.clock import utcnow
from linekeeper.reconnect.remind import DEADLINE
from linekeeper.reconnect.watch import watch
from linekeeper.store.tables import Connection, Reconnect

from .conftest import House
from .post import Post, listening
from .test_ask import Opened, asking, next_weekday_noon, outbox, work


@pytest.fixture
async def post() -> AsyncIterator[Post]:
    async with listening() as server:
        yield server


async def lost(open_house: Opened, post: Post) -> tuple[House, Connection, datetime]:
    """A lost login whose customer was asked, and a working hour at which a reminder is due."""
    house = await asking(open_house, post.url)
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    await work(house)
    assert len(post.mails) == 1
    return house, connection, next_weekday_noon(utcnow() + timedelta(days=4))


async def look(house: House, moment: datetime) -> list[str]:
    """What the consumer does when Linekeeper runs again at `moment`, before any sweep: the mails
    that it writes."""
    await watch(house.rt, now=moment)
    return [row.payload["do"] for row in await outbox(house, "email")]


async def said(house: House, words: str) -> bool:
    """Whether operators read `words`."""
    return any(words in str(row.payload) for row in await outbox(house, "slack"))


async def test_nobody_is_reminded_of_a_login_that_came_back_while_linekeeper_was_off(
    open_house: Opened, post: Post
) -> None:
    house, connection, moment = await lost(open_house, post)
    await house.control(f"connections/{connection.makini_key}/restore-credentials")
    assert await look(house, moment) == ["ask"]
    assert not await said(house, "Still waiting")
    [incident] = await house.incidents()
    assert incident.resolved_at is not None
    assert await look(house, moment + timedelta(minutes=1)) == ["ask"]


async def test_a_login_that_is_still_lost_is_reminded_of_at_once(
    open_house: Opened, post: Post
) -> None:
    house, _, moment = await lost(open_house, post)
    assert await look(house, moment) == ["ask", "remind"]
    assert await said(house, "Still waiting")


async def test_while_makini_does_not_answer_nobody_is_reminded_of_what_was_true_days_ago(
    open_house: Opened, post: Post
) -> None:
    house, _, moment = await lost(open_house, post)
    await house.control("settings", status="500")
    assert await look(house, moment) == ["ask"]
    await house.control("settings", status="")
    assert await look(house, moment + timedelta(minutes=1)) == ["ask", "remind"]


async def test_a_deadline_that_passed_meanwhile_is_not_said_of_a_login_that_works(
    open_house: Opened, post: Post
) -> None:
    house, connection, _ = await lost(open_house, post)
    await house.control(f"connections/{connection.makini_key}/restore-credentials")
    await look(house, utcnow() + DEADLINE + timedelta(hours=1))
    [case] = await house.rows(Reconnect)
    assert case.outcome != "not_in_time"
    assert not await said(house, "Not reconnected")
