"""A customer of whom nobody could be mailed is asked once somebody can be, and with one mail."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

import pytest
from pydantic import SecretStr
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.customers.change import CustomerChange, change_customer
from linekeeper.customers.importing import import_customers
from linekeeper.outbox.senders.reconnect import advance_due_cases
from linekeeper.reconnect.ask import send_again
from linekeeper.reconnect.watch import watch
from linekeeper.store.tables import Customer, IncidentEntry, Outbox
from tests.delivering import deliver_mail

from .conftest import House
from .post import Post, listening

Opened = Callable[..., Awaitable[House]]


@pytest.fixture
async def mailbox() -> AsyncIterator[Post]:
    async with listening() as server:
        yield server


async def lost_without_contact(open_house: Opened, mailbox: Post) -> tuple[House, Customer]:
    """A house whose first customer lost a login, and has nobody who could be mailed."""
    house = await open_house(
        smtp_url=SecretStr(mailbox.url), mail_from="Line <line@op.example>", notify_customers=True
    )
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    await work(house)
    assert mailbox.mails == []
    [customer] = await house.rows(Customer, col(Customer.id) == connection.customer_id)
    return house, customer


async def work(house: House) -> None:
    """What the consumer does, until nothing is left."""
    while await advance_due_cases(house.rt) | await deliver_mail(house.rt):
        pass


@pytest.mark.parametrize("by", ["import", "form"])
async def test_a_contact_that_is_named_later_is_asked_then(
    open_house: Opened, mailbox: Post, by: str
) -> None:
    house, customer = await lost_without_contact(open_house, mailbox)
    for _ in range(2):
        if by == "import":
            table = f"name,contacts\n{customer.name},it@late.example\n".encode()
            await import_customers(house.store, table, by="tests", now=utcnow())
        else:
            change = CustomerChange(contacts="it@late.example")
            await change_customer(house.store, customer.name, change, by="tests", now=utcnow())
        await work(house)
    [mail] = mailbox.mails
    assert mail["To"] == "it@late.example"
    said = [row.text for row in await house.rows(IncidentEntry) if "mail" in row.text]
    assert said == [
        f"Nobody to mail: no contact is known of {customer.name}.",
        f"By now asked by mail: {customer.name}.",
    ], "Slack's message is written anew: it had gone on saying that nobody is mailed"


async def test_the_link_sent_again_to_who_was_not_asked_yet_is_one_mail(
    open_house: Opened, mailbox: Post
) -> None:
    house, customer = await lost_without_contact(open_house, mailbox)
    change = CustomerChange(contacts="it@late.example")
    await change_customer(house.store, customer.name, change, by="tests", now=utcnow())
    [incident] = await house.incidents()
    said = await send_again(house.rt, incident.id, by="petra", now=utcnow())
    assert said == "the link is mailed"
    await work(house)
    assert len(mailbox.mails) == 1
    said = await send_again(house.rt, incident.id, by="petra", now=utcnow() + timedelta(minutes=1))
    assert said == "the link is mailed again"
    asked = await house.rows(Outbox, col(Outbox.channel) == "email")
    assert sorted(row.payload["do"] for row in asked) == ["again", "ask"]


async def test_after_seven_days_nothing_is_said_of_reminders_that_nobody_got(
    open_house: Opened, mailbox: Post
) -> None:
    house, _ = await lost_without_contact(open_house, mailbox)
    await watch(house.rt, now=utcnow() + timedelta(days=8))
    entries = await house.rows(IncidentEntry, col(IncidentEntry.text).contains("within 7 days"))
    assert len(entries) == 1
    assert "reminder" not in entries[0].text
    assert await house.rows(Outbox, col(Outbox.channel) == "email") == []
