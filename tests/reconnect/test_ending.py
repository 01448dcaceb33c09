"""A login that Makini refuses to renew: the customer is asked before it ends, not after."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr
from sqlalchemy import update
from sqlmodel import col

from linekeeper.access.expiry import HORIZON, horizon, renew_ending
from linekeeper.access.signing import load_signer
from linekeeper.clock import utcnow
from linekeeper.makini import TokenPair
from linekeeper.notify.letters import ending_letter
from linekeeper.outbox.queue import claim, outbox_of
from linekeeper.reconnect.ending import KIND, TOPIC, announce_ending
from linekeeper.reconnect.remind import is_working
from linekeeper.store.tables import (
    Connection,
    ConnectLink,
    Contact,
    Credential,
    Customer,
    Outbox,
)
from linekeeper.tokens.stored import save_tokens
from linekeeper.views.expiry_page import expiry_markdown
from tests.reconnect.conftest import House
from tests.reconnect.test_put_back import configured


@pytest.fixture
async def asking(open_house: Callable[..., Awaitable[House]]) -> House:
    """A house that mails its customers."""
    return await open_house(
        notify_customers=True,
        smtp_url=SecretStr("smtp://127.0.0.1:1"),
        mail_from="linekeeper@example.com",
    )


async def refused(house: House, *, ends_in: timedelta) -> tuple[Connection, datetime]:
    """A connection whose pair ends and whose renewal Makini refused, and when it ends."""
    [connection, *_] = await house.connections()
    ends_at = utcnow() + ends_in
    async with house.store.write() as session:
        pair = TokenPair("a", "r", ends_at, minted=False)
        await save_tokens(house.store, session, {connection.id: pair}, now=utcnow())
        await session.execute(
            update(Credential)
            .where(col(Credential.connection_id) == connection.id)
            .values(refused_at=utcnow())
        )
        assert connection.customer_id is not None
        session.add(Contact(customer_id=connection.customer_id, email="it@acme.example", name=""))
    return connection, ends_at


async def mails(house: House) -> list[Outbox]:
    found: list[Outbox] = await house.rows(Outbox, col(Outbox.channel) == "email")
    return sorted(found, key=lambda row: row.id)


async def test_the_customer_is_mailed_a_week_ahead_and_reminded_with_a_link_that_outlives_the_end(
    asking: House,
) -> None:
    """B4: what can't be renewed is announced in the customer's working hours before it ends."""
    connection, ends_at = await refused(asking, ends_in=timedelta(days=6))
    for _ in range(2):
        assert await announce_ending(asking.rt, now=utcnow()) == 1
    [first] = await mails(asking)
    async with asking.store.read() as session:
        zone = (await session.get_one(Customer, connection.customer_id)).time_zone
    assert zone == "UTC"
    assert is_working(first.next_attempt_at.astimezone(UTC))
    [link] = await asking.rows(ConnectLink)
    assert (link.connection_id, link.incident_id) == (connection.id, None)
    assert link.expires_at == ends_at + timedelta(days=2)
    for _ in range(2):
        await announce_ending(asking.rt, now=ends_at - timedelta(days=2))
    [_, reminder] = await mails(asking)
    assert len(await asking.rows(ConnectLink)) == 1
    assert await asking.incidents() == []
    signer = await load_signer(asking.store)
    apps = (await asking.rt.configuration()).apps
    letters = [
        await ending_letter(asking.store, row, signer, "http://here", apps)
        for row in (first, reminder)
    ]
    assert letters[0] is not None
    assert letters[1] is not None
    assert letters[0].recipients == ["it@acme.example"]
    assert letters[0].subject.startswith("Please renew the login to")
    assert letters[1].subject.startswith("Reminder: please renew")
    assert "http://here/connect/" in letters[0].body


async def test_when_the_last_day_begins_it_is_an_incident_until_the_customer_logs_in(
    asking: House,
) -> None:
    connection, ends_at = await refused(asking, ends_in=timedelta(days=6))
    await announce_ending(asking.rt, now=utcnow())
    assert await asking.incidents() == []
    for _ in range(2):
        await announce_ending(asking.rt, now=ends_at - timedelta(hours=23))
    [incident] = await asking.incidents()
    assert (incident.kind, incident.topic, incident.status) == (KIND, TOPIC, "open")
    async with asking.store.write() as session:
        pair = TokenPair("b", "s", utcnow() + timedelta(days=30), minted=False)
        await save_tokens(asking.store, session, {connection.id: pair}, now=utcnow())
    await announce_ending(asking.rt, now=ends_at - timedelta(hours=22))
    [incident] = await asking.incidents()
    assert incident.status == "resolved"
    signer = await load_signer(asking.store)
    apps = (await asking.rt.configuration()).apps
    for row in await mails(asking):  # what was not sent yet isn't needed any more
        assert await ending_letter(asking.store, row, signer, "http://here", apps) is None


async def test_operators_are_told_once_and_where_customers_are_not_mailed_what_to_do(
    house: House,
) -> None:
    await refused(house, ends_in=timedelta(days=6))
    now = utcnow()
    for _ in range(2):
        assert await announce_ending(house.rt, now=now) == 1
    assert await mails(house) == []
    [notice] = await house.rows(Outbox, col(Outbox.dedupe_key).contains("expiry:"))
    assert "run `connect`" in notice.payload["text"]
    table = expiry_markdown(await horizon(house.rt, until=now + HORIZON), now=now)
    assert "data:image/svg+xml" in table
    assert "1 end within 31 days, 1 of them within 7" in table


async def test_a_login_that_is_lost_is_asked_for_though_a_link_for_its_end_still_works(
    asking: House,
) -> None:
    from linekeeper.outbox.senders.reconnect import advance_due_cases

    connection, _ = await refused(asking, ends_in=timedelta(days=6))
    await announce_ending(asking.rt, now=utcnow())
    async with asking.store.write() as session:  # it is Friday evening
        await session.execute(
            update(Outbox)
            .where(col(Outbox.channel) == "email")
            .values(next_attempt_at=utcnow() + timedelta(days=2))
        )
    await asking.lose_login(connection)
    await advance_due_cases(asking.rt)
    due = await claim(asking.store, outbox_of("email"), "tests", limit=10, now=utcnow())
    assert [row["payload"]["do"] for row in due.rows] == ["ask"]


async def test_what_is_announced_already_takes_no_transaction_that_writes(asking: House) -> None:
    """The consumer looks every minute, and such a transaction holds SQLite's one lock."""

    async def while_another_writes() -> int:
        async with asyncio.timeout(60), asking.store.write() as session:
            await session.execute(update(Customer).values(critical=False))
            return await announce_ending(asking.rt, now=utcnow())

    assert await while_another_writes() == 0
    await refused(asking, ends_in=timedelta(hours=12))
    assert await announce_ending(asking.rt, now=utcnow()) == 1
    assert await while_another_writes() == 1
    [opened] = [row for row in await asking.incidents() if row.topic == TOPIC]
    assert opened.resolved_at is None
    async with asking.store.write() as session:
        await session.execute(update(Credential).values(refused_at=None))
    assert await announce_ending(asking.rt, now=utcnow()) == 0
    [opened] = [row for row in await asking.incidents() if row.topic == TOPIC]
    assert opened.resolved_at is not None
    assert await while_another_writes() == 0


async def test_of_an_app_that_was_taken_out_no_login_is_announced(asking: House) -> None:
    """Nobody can renew it any more, and the incident would be open for good."""
    app = await asking.rt.app("default")
    await refused(asking, ends_in=timedelta(hours=12))
    assert await announce_ending(asking.rt, now=utcnow()) == 1
    said = len(await asking.rows(Outbox))
    await configured(asking, app.model_copy(update={"name": "other"}))
    async with asking.store.write() as session:
        ends_at = utcnow() + timedelta(hours=20)  # another one that ends
        [_, second, *_] = await asking.connections()
        pair = TokenPair("c", "d", ends_at, minted=False)
        await save_tokens(asking.store, session, {second.id: pair}, now=utcnow())
    for _ in range(2):
        assert await announce_ending(asking.rt, now=utcnow()) == 0
    [incident] = [row for row in await asking.incidents() if row.topic == TOPIC]
    assert incident.resolved_at is not None
    assert await horizon(asking.rt, until=utcnow() + HORIZON) == [], "the page `expiry` has none"
    assert (await renew_ending(asking.rt, now=utcnow())).ending == []
    later = [row.payload for row in (await asking.rows(Outbox))[said:] if row.channel == "slack"]
    assert not [payload for payload in later if payload["do"] == "say"]


async def test_a_mail_that_waits_is_not_sent_once_its_app_was_taken_out(asking: House) -> None:
    """It was written on Friday evening; on Monday its link would lead nowhere."""
    app = await asking.rt.app("default")
    await refused(asking, ends_in=timedelta(days=6))
    await announce_ending(asking.rt, now=utcnow())
    [row] = await mails(asking)
    signer = await load_signer(asking.store)

    async def letter() -> object:
        apps = (await asking.rt.configuration()).apps
        return await ending_letter(asking.store, row, signer, "http://here", apps)

    assert await letter() is not None
    await configured(asking, app.model_copy(update={"name": "other"}))
    assert await letter() is None
