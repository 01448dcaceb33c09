"""A customer of whom nobody could be mailed is asked once somebody can be, and with one mail."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from pydantic import SecretStr
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.consumer.service import run_consumer
from linekeeper.customers.change import CustomerChange, change_customer
from linekeeper.customers.importing import import_customers
from linekeeper.erasure import erase_customer
from linekeeper.orchestrator import Blocks
from linekeeper.outbox.senders.reconnect import advance_due_cases
from linekeeper.reconnect.ask import send_again
from linekeeper.reconnect.unasked import Unasked
from linekeeper.reconnect.watch import watch
from linekeeper.settings import Settings
from linekeeper.store.configuration import SharedConfiguration, save_blocks
from linekeeper.store.tables import Contact, Customer, IncidentEntry, Outbox
from tasks.prefect_adapter.orchestrator import PrefectOrchestrator
from tests.delivering import deliver_mail

from .conftest import House
from .post import Post, listening
from .test_ask import next_weekday_noon

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


@pytest.mark.parametrize("was_asked", [False, True])
async def test_who_turns_out_to_be_a_customer_that_can_be_mailed_is_asked_then_and_once(
    open_house: Opened, mailbox: Post, was_asked: bool
) -> None:
    """A merge looked at no case: the customer of the lost login was asked by nobody, or again."""
    house, customer = await lost_without_contact(open_house, mailbox)
    table = "name,contacts\nHelix Foods,it@helix.example\n"
    if was_asked:
        table += f"{customer.name},it@late.example\n"
    await import_customers(house.store, table.encode(), by="tests", now=utcnow())
    await work(house)
    change = CustomerChange(same_as="Helix Foods")
    await change_customer(house.store, customer.name, change, by="tests", now=utcnow())
    await work(house)
    asked = "it@late.example" if was_asked else "it@helix.example"
    assert [mail["To"] for mail in mailbox.mails] == [asked]


@asynccontextmanager
async def consumer(house: House) -> AsyncIterator[None]:
    """A consumer that runs, with Prefect away."""
    stop = asyncio.Event()
    away = Settings(home=house.rt.settings.home, prefect_port=1)
    async with PrefectOrchestrator.open(away) as nobody:
        running = asyncio.create_task(
            run_consumer(house.rt, nobody, find_links=nobody.find_links, stop=stop)
        )
        try:
            yield
        finally:
            stop.set()
            await running


async def until_mailed(mailbox: Post) -> None:
    async with asyncio.timeout(30):
        while not mailbox.mails:
            await asyncio.sleep(0.05)


async def test_who_got_a_contact_in_a_version_that_looked_at_no_case_is_asked_by_the_next_consumer(
    open_house: Opened, mailbox: Post
) -> None:
    house, customer = await lost_without_contact(open_house, mailbox)
    async with house.store.write() as session:  # all that an import of version 0.1 wrote
        session.add(Contact(customer_id=customer.id, email="it@late.example"))
    await work(house)
    assert mailbox.mails == []
    async with consumer(house):
        await until_mailed(mailbox)
    await Unasked(house.rt).step()  # as the consumer after that does
    await work(house)
    assert [mail["To"] for mail in mailbox.mails] == ["it@late.example"]
    asked = await house.rows(Outbox, col(Outbox.channel) == "reconnect")
    assert {row.status for row in asked} <= {"sent", "superseded"}
    assert len(asked) == 2, "the loss, and the look of the first consumer"


async def test_who_was_asked_by_nobody_while_mails_were_off_is_asked_once_a_block_switches_them_on(
    open_house: Opened, mailbox: Post
) -> None:
    house = await open_house(
        smtp_url=SecretStr(mailbox.url), mail_from="Line <line@op.example>", notify_customers=False
    )
    [connection, *_] = await house.connections()
    async with house.store.write() as session:
        session.add(Contact(customer_id=connection.customer_id, email="it@late.example"))
    await house.lose_login(connection)
    await work(house)
    unasked = Unasked(house.rt)
    await unasked.step()
    await work(house)
    assert mailbox.mails == []
    app = await house.rt.app("default")
    blocks = Blocks(apps=[app.model_copy(update={"notify_customers": True})])
    await save_blocks(house.store, blocks, now=utcnow())
    house.rt.configuration = SharedConfiguration(house.store, house.rt.settings).read
    for _ in range(2):
        await unasked.step()
        await work(house)
    assert [mail["To"] for mail in mailbox.mails] == ["it@late.example"]


async def test_who_was_not_asked_but_reminded_is_not_asked_after_that(
    open_house: Opened, mailbox: Post
) -> None:
    house, customer = await lost_without_contact(open_house, mailbox)
    async with house.store.write() as session:
        session.add(Contact(customer_id=customer.id, email="it@late.example"))
    await watch(house.rt, now=next_weekday_noon(utcnow() + timedelta(days=4)))
    await Unasked(house.rt).step()
    await advance_due_cases(house.rt)
    mails = await house.rows(Outbox, col(Outbox.channel) == "email")
    assert [row.payload["do"] for row in mails] == ["remind"]


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


async def test_a_mail_that_waits_for_an_erased_customer_is_not_sent_and_nobody_reads_that_it_failed(
    open_house: Opened, mailbox: Post
) -> None:
    house, customer = await lost_without_contact(open_house, mailbox)
    change = CustomerChange(contacts="it@late.example")
    await change_customer(house.store, customer.name, change, by="tests", now=utcnow())
    await advance_due_cases(house.rt)
    await erase_customer(house.store, customer.name, by="tests", now=utcnow())
    await work(house)
    assert mailbox.mails == []
    [row] = await house.rows(Outbox, col(Outbox.channel) == "email")
    assert (row.status, row.error) == ("skipped", "the customer was erased")
    said = [row.text for row in await house.rows(IncidentEntry)]
    assert not [text for text in said if "was not sent" in text], said
