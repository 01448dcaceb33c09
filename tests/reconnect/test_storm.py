"""500 connections of one provider lose their logins in a minute, and get them back."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta

import pytest
from pydantic import SecretStr

import sandbox
from linekeeper.clock import Clock, use, utcnow
from linekeeper.consumer.connection_events import process_connection_events
from linekeeper.incidents.announce import ROOT_CAUSE_WAIT
from linekeeper.outbox.queue import ENDED
from linekeeper.outbox.senders.reconnect import advance_due_cases
from linekeeper.outbox.senders.slack import deliver_due
from linekeeper.store.tables import ConnectLink, Contact, Customer, Reconnect
from tests.delivering import deliver_mail
from tests.reconnect.conftest import House
from tests.reconnect.post import Post, listening, text_of
from tests.reconnect.test_ask import Opened, asking, outbox, work
from tests.reconnect.test_kills import deliver_slack, messages, with_slack

HOW_MANY = 500


@asynccontextmanager
async def stormy(open_house: Opened, post: Post) -> AsyncIterator[House]:
    """A house with `HOW_MANY` more of one provider, which gets Makini's webhooks."""
    here = await open_house(
        connections=6,
        smtp_url=post.secret,
        mail_from="Line <line@op.example>",
        notify_customers=True,
        makini_webhook_secrets=(SecretStr(sandbox.Settings().webhook_secret),),
    )
    await with_slack(here)
    for number in range(HOW_MANY):
        here.fleet.world.create(
            name=f"Customer {number:03} · UpKeep",
            email=f"it@c{number}.example",
            provider="upkeep",
        )
    await here.sweep()
    async with here.store.write() as session:
        for customer in await here.rows(Customer):
            session.add(Contact(customer_id=customer.id, email=f"it@{customer.slug}.example"))
    yield here


async def consume(here: House) -> None:
    """The consumer's loops, until cancelled."""
    rt = here.rt

    async def mail() -> bool:
        return await deliver_mail(rt)

    async def slack() -> bool:
        return bool((await deliver_due(rt.store, await rt.configuration(), rt.owner)).sent)

    async def keep(step: Callable[[], Awaitable[bool]]) -> None:
        while True:
            if not await step():
                await asyncio.sleep(0.05)

    async with asyncio.TaskGroup() as group:
        for step in (
            lambda: process_connection_events(rt),
            lambda: advance_due_cases(rt),
            mail,
            slack,
        ):
            group.create_task(keep(step))


@pytest.mark.soak
async def test_500_told_of_by_webhooks_end_as_one_incident_and_a_mail_a_customer(
    open_house: Opened,
) -> None:
    async with listening() as post, stormy(open_house, post) as here:
        consuming = asyncio.create_task(consume(here))
        await here.control(
            "settings",
            webhook_url=f"{here.rt.settings.public_url}/webhooks/default",
        )
        upkeeps = [
            connection for connection in await here.connections() if connection.provider == "UpKeep"
        ]
        began = time.monotonic()
        await here.control("providers/upkeep/change-credentials")
        while len(post.mails) < len(upkeeps) and time.monotonic() - began < 100:
            await asyncio.sleep(0.2)
        print(f"{len(post.mails)} mails after {time.monotonic() - began:.1f} s")
        await asyncio.sleep(3)
        consuming.cancel()
        with suppress(asyncio.CancelledError):
            await consuming
        ones = await here.incidents()
        assert len(await outbox(here, "run")) == 1
        assert len(here.fleet.world.slack.snapshot()) == 1
        assert len(post.mails) == len({connection.customer_id for connection in upkeeps})
        assert len([o for o in ones if o.resolved_at is None]) == 1


@pytest.mark.soak
async def test_500_of_one_provider_are_one_incident_one_run_one_thread_and_a_mail_a_customer(
    open_house: Opened,
) -> None:
    async with listening() as post, stormy(open_house, post) as here:
        began = time.monotonic()
        await here.control("providers/upkeep/change-credentials")
        await here.sweep()
        for _ in range(60):
            await work(here)
            if all(row.status == "sent" for row in await outbox(here, "email")):
                break
        await deliver_slack(here)
        print(f"{len(post.mails)} mails after {time.monotonic() - began:.1f} s")
        open_ones = [
            incident for incident in await here.incidents() if incident.resolved_at is None
        ]
        assert len(open_ones) == 1
        assert len(await outbox(here, "run")) == 1
        assert len(here.fleet.world.slack.snapshot()) == 1
        upkeeps = [
            connection for connection in await here.connections() if connection.provider == "UpKeep"
        ]
        assert len(upkeeps) >= HOW_MANY
        assert len(post.mails) == len({connection.customer_id for connection in upkeeps})
        assert len(await here.rows(ConnectLink)) == len(upkeeps)

        await here.control("providers/upkeep/restore-credentials")
        await here.sweep()
        await work(here)
        await deliver_due(here.store, await here.rt.configuration(), here.rt.owner)
        assert [
            incident for incident in await here.incidents() if incident.resolved_at is None
        ] == []
        assert len(await here.rows(Reconnect)) == 1
        assert len(await outbox(here, "run")) <= 2  # to start it, and to wake it
        assert len(here.fleet.world.slack.snapshot()) == 1


class SlowClock(Clock):
    """Time passes ten times slower, so that a slow machine takes moments, too."""

    def __init__(self, began: datetime) -> None:
        self._began, self._since = began, time.monotonic()

    def utcnow(self) -> datetime:
        return self._began + timedelta(seconds=(time.monotonic() - self._since) / 10)


@pytest.fixture
def moments() -> Iterator[None]:
    """Whatever the test does takes less than `ROOT_CAUSE_WAIT`."""
    before = use(SlowClock(utcnow()))
    yield
    use(before)


@pytest.mark.usefixtures("moments")
async def test_logins_lost_one_after_the_other_are_one_run_and_one_message(
    open_house: Opened,
) -> None:
    here = await open_house(connections=6)
    await with_slack(here)
    for number in range(8):
        here.fleet.world.create(name=f"C {number} · Fiix", email="it@c.example", provider="fiix")
    await here.sweep()
    fiix = [one for one in await here.connections() if one.provider == "Fiix"]
    for connection in fiix:
        await here.lose_login(connection)
        await advance_due_cases(here.rt)
        await deliver_slack(here)
    cases = await here.rows(Reconnect)
    runs = await outbox(here, "run")
    starts = [row for row in runs if "resume" not in row.payload]
    held = [row for row in starts if row.error]
    assert (
        len([incident for incident in await here.incidents() if incident.resolved_at is None]) == 1
    )
    assert len(cases) == len(starts) > 1
    assert len(starts) - len(held) == 1  # the others never began
    assert {row.status for row in held} == {"skipped"}
    assert len([one for one in cases if one.outcome == "moved"]) == len(held)
    assert len(messages(here)) == 1
    assert {row.status for row in await outbox(here, "slack")} <= set(ENDED)


@pytest.mark.usefixtures("moments")
async def test_two_of_a_provider_within_moments_are_two_and_told_a_little_later(
    open_house: Opened,
) -> None:
    here = await open_house(connections=6)
    await with_slack(here)
    for number in range(4):
        here.fleet.world.create(name=f"C {number} · Fiix", email="it@c.example", provider="fiix")
    await here.sweep()
    connection, other = [one for one in await here.connections() if one.provider == "Fiix"][:2]
    for lost in (connection, other):
        await here.lose_login(lost)
        await advance_due_cases(here.rt)
        await deliver_slack(here)
    now = utcnow()
    assert len(messages(here)) == 1
    first, second = await outbox(here, "run")
    assert first.next_attempt_at <= now < second.next_attempt_at <= now + ROOT_CAUSE_WAIT
    later = now + ROOT_CAUSE_WAIT
    configuration = await here.rt.configuration()
    await deliver_due(here.store, configuration, here.rt.owner, clock=lambda: later)
    assert len(messages(here)) == 2


async def test_a_second_system_lost_after_the_mail_went_is_mailed_too(
    open_house: Opened,
) -> None:
    async with listening() as post:
        here = await asking(open_house, post.url)
        for number in range(6):
            name = "Acme · Fiix" if number < 2 else f"C {number} · Fiix"
            here.fleet.world.create(name=name, email="it@c.example", provider="fiix")
        await here.sweep()
        fiix = [one for one in await here.connections() if one.provider == "Fiix"]
        [acme] = {c.id for c in await here.rows(Customer) if c.name == "Acme"}
        second = [one for one in fiix if one.customer_id == acme][1]
        async with here.store.write() as session:
            session.add(Contact(customer_id=acme, email="it@acme.example"))
        for connection in fiix:
            if connection.id != second.id:
                await here.control(f"connections/{connection.makini_key}/change-credentials")
        await here.sweep()
        await work(here)
        await here.lose_login(second)
        await work(here)
        await here.sweep()
        await work(here)
        texts = [text_of(mail) for mail in post.mails if mail["To"] == "it@acme.example"]
        assert [text.count("/connect/") for text in texts] == [1, 2]
