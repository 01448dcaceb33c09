"""Asking customers: one link, one mail, one run, whoever is killed and however often."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import update
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.explain.service import explain
from linekeeper.incidents.conclude import conclude
from linekeeper.outbox.senders.reconnect import advance_due_cases
from linekeeper.outbox.senders.slack import deliver_due
from linekeeper.reconnect.ask import advance_case
from linekeeper.reconnect.watch import watch
from linekeeper.runtime import Runtime
from linekeeper.store.tables import (
    Connection,
    ConnectLink,
    Contact,
    Customer,
    IncidentConnection,
    Outbox,
    Reconnect,
)
from tests.delivering import deliver_mail

from .conftest import House
from .post import Post, listening, text_of
from .working_clock import at


@pytest.fixture
async def post() -> AsyncIterator[tuple[Post, str]]:
    async with listening() as server:
        yield server, server.url


Opened = Callable[..., Awaitable[House]]


async def asking(open_house: Opened, url: str, **more: Any) -> House:
    """A house that mails customers, each with a contact."""
    house = await open_house(
        smtp_url=SecretStr(url), mail_from="Line <line@op.example>", notify_customers=True, **more
    )
    async with house.store.write() as session:
        for customer in await house.rows(Customer):
            session.add(Contact(customer_id=customer.id, email=f"it@{customer.slug}.example"))
    return house


async def work(house: House) -> None:
    """What the consumer does, until nothing is left."""
    rt = house.rt
    for _ in range(10):
        more = await advance_due_cases(rt)
        more |= await deliver_mail(rt)
        if not more:
            return


async def outbox(house: House, channel: str) -> list[Outbox]:
    rows = await house.rows(Outbox, col(Outbox.channel) == channel)
    return sorted(rows, key=lambda row: row.seq)


async def test_a_lost_login_makes_one_link_one_mail_and_one_run(
    open_house: Opened, post: tuple[Post, str]
) -> None:
    """C3: the customer is told, with what to do."""
    mailbox, url = post
    house = await asking(open_house, url)
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    await work(house)
    await house.sweep()
    await work(house)
    [incident] = await house.incidents()
    [link] = await house.rows(ConnectLink)
    [mail] = mailbox.mails
    assert connection.provider in mail["Subject"]
    body = text_of(mail)
    [path] = re.findall(r"/connect/[\w-]+", body)
    assert (await house.http.get(path)).status_code == 200
    assert link.connection_id == connection.id
    [run] = await outbox(house, "run")
    assert run.payload["deployment"] == "reconnect"
    assert run.payload["name"] == incident.title
    assert run.payload["parameters"] == {"incident": incident.id}
    assert run.payload["idempotency_key"] == f"reconnect:{incident.id}:1:1"
    assert {"waiting:customer", f"connection:{connection.slug}"} <= set(run.payload["tags"])
    assert "/connect/" not in str(run.payload)
    delivered = await deliver_due(house.store, await house.rt.configuration(), "tests")
    assert any(path in text for text in delivered.unsent), (path, delivered)

    # What the alert policy decided for Slack is not why a customer is mailed, nor why a run began.
    [sent] = await outbox(house, "email")
    [customer] = await house.rows(Customer, col(Customer.id) == connection.customer_id)
    rule = f"{customer.name} is notified, by the settings of app default"
    said = []
    for message in (sent, run):
        found = await explain(house.store, await house.rt.configuration(), message.id, now=utcnow())
        said.append(found.verdict.summary)
    assert said[0].endswith(f"UTC. It was sent because of this rule: {rule}.")
    assert "rule" not in said[1]


async def test_in_observe_there_is_a_run_and_no_link_and_no_mail(
    open_house: Opened, post: tuple[Post, str]
) -> None:
    mailbox, url = post
    house = await asking(open_house, url, makini_mode="manage")
    [connection, *_] = await house.connections()
    watcher = house.rt.settings.model_copy(update={"makini_mode": "observe"})
    await house.lose_login(connection)
    async with Runtime.open(watcher) as observing:
        assert await advance_due_cases(observing)
    await work(house)
    assert await house.rows(ConnectLink) == []
    assert mailbox.mails == []
    assert len(await outbox(house, "run")) == 1


async def test_without_notify_customers_operators_get_the_link_and_nobody_is_mailed(
    house: House,
) -> None:
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    await work(house)
    assert len(await house.rows(ConnectLink)) == 1
    assert await outbox(house, "email") == []
    [incident] = await house.incidents()
    assert "/connect/" in (incident.connect_url or "")


async def test_asking_again_and_again_asks_once(open_house: Opened, post: tuple[Post, str]) -> None:
    mailbox, url = post
    house = await asking(open_house, url)
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    [incident] = await house.incidents()
    await asyncio.gather(*(advance_case(house.rt, incident.id, now=utcnow()) for _ in range(4)))
    await work(house)
    await advance_case(house.rt, incident.id, now=utcnow())
    await work(house)
    assert len(mailbox.mails) == 1
    assert len(await house.rows(ConnectLink)) == 1
    assert len(await outbox(house, "run")) == 1


async def test_one_who_logs_in_before_the_mail_goes_gets_none(
    open_house: Opened, post: tuple[Post, str]
) -> None:
    mailbox, url = post
    house = await asking(open_house, url)
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    await advance_due_cases(house.rt)
    await house.control(f"connections/{connection.makini_key}/restore-credentials")
    await house.sweep()
    await work(house)
    assert mailbox.mails == []
    assert {row.status for row in await outbox(house, "email")} == {"skipped"}


async def test_many_of_one_provider_are_one_incident_one_run_and_a_mail_a_customer(
    open_house: Opened, post: tuple[Post, str]
) -> None:
    mailbox, url = post
    house = await asking(open_house, url, connections=24)
    victims = [one for one in await house.connections() if one.provider == "UpKeep"]
    assert len(victims) >= 5
    for connection in victims:
        await house.control(f"connections/{connection.makini_key}/change-credentials")
    await house.sweep()
    await work(house)
    assert len([incident for incident in await house.incidents() if incident.status == "open"]) == 1
    assert len(await outbox(house, "run")) == 1
    assert len(await house.rows(ConnectLink)) == len(victims)
    assert len(mailbox.mails) == len({victim.customer_id for victim in victims})
    assert len({mail["Message-ID"] for mail in mailbox.mails}) == len(mailbox.mails)


async def test_a_customer_without_a_contact_is_told_to_operators(
    open_house: Opened, post: tuple[Post, str]
) -> None:
    _, url = post
    house = await asking(open_house, url)
    async with house.store.write() as session:
        for contact in await house.rows(Contact):
            await session.delete(contact)
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    await work(house)
    assert await outbox(house, "email") == []
    assert any("Nobody to mail" in str(row.payload) for row in await outbox(house, "slack"))


async def test_reminders_go_out_once_and_stop_when_the_login_is_back(
    open_house: Opened, post: tuple[Post, str]
) -> None:
    mailbox, url = post
    house = await asking(open_house, url)
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    await work(house)
    [case] = await house.rows(Reconnect)
    later = next_weekday_noon(case.opened_at + timedelta(days=4))
    for _ in range(3):
        await watch(house.rt, now=later)
    async with house.store.write() as session:
        await session.execute(update(Outbox).values(next_attempt_at=utcnow()))
    with at(next_weekday_noon(utcnow() + timedelta(days=1))):
        await work(house)
    assert [mail["Subject"].startswith("Reminder") for mail in mailbox.mails] == [False, True]
    assert len({mail["Message-ID"] for mail in mailbox.mails}) == 2
    [thread] = {mail["References"] for mail in mailbox.mails}
    assert thread
    async with house.store.write() as session:
        await session.execute(
            update(Connection).where(col(Connection.id) == connection.id).values(health="healthy")
        )
        await conclude(
            house.store, session, policy=(await house.rt.configuration()).policy, now=utcnow()
        )
    await watch(house.rt, now=later + timedelta(days=1))
    await work(house)
    assert len(mailbox.mails) == 2


async def test_after_the_deadline_the_case_ends_and_the_incident_stays_open(house: House) -> None:
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    await work(house)
    [case] = await house.rows(Reconnect)
    for _ in range(2):
        await watch(house.rt, now=case.deadline_at)
    [case] = await house.rows(Reconnect)
    assert case.outcome == "not_in_time"
    [incident] = await house.incidents()
    assert incident.resolved_at is None
    rows = [row for row in await outbox(house, "slack") if "Not reconnected" in str(row.payload)]
    assert len(rows) == 1


async def test_a_customer_who_joins_a_running_case_has_a_deadline_of_its_own(
    house: House,
) -> None:
    first, second, *_ = await house.connections()
    await house.lose_login(first)
    await house.lose_login(second)
    await work(house)
    incident, other = await house.incidents()
    [opened] = await house.rows(Reconnect, col(Reconnect.incident_id) == incident.id)
    joined = opened.opened_at + timedelta(days=3)
    async with house.store.write() as session:
        await session.execute(
            update(IncidentConnection)
            .where(col(IncidentConnection.incident_id) == other.id)
            .values(incident_id=incident.id, joined_at=joined)
        )
        await session.execute(
            update(Reconnect)
            .where(col(Reconnect.incident_id) == other.id)
            .values(closed_at=joined, outcome="moved")
        )
    await advance_case(house.rt, incident.id, now=joined)

    async def not_in_time() -> tuple[str | None, int]:
        [case] = await house.rows(Reconnect, col(Reconnect.incident_id) == incident.id)
        said = await outbox(house, "slack")
        return case.outcome, sum("Not reconnected in time" in str(row.payload) for row in said)

    for _ in range(2):
        await watch(house.rt, now=opened.opened_at + timedelta(days=8))
    assert await not_in_time() == (None, 1)
    for _ in range(2):
        await watch(house.rt, now=joined + timedelta(days=7, minutes=1))
    assert await not_in_time() == ("not_in_time", 2)


async def test_a_login_lost_again_within_the_hour_is_a_new_attempt_with_a_new_link(
    house: House,
) -> None:
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    await work(house)
    async with house.store.write() as session:
        await session.execute(update(ConnectLink).values(used_at=utcnow()))
        await session.execute(update(Reconnect).values(closed_at=utcnow(), outcome="reconnected"))
    await house.control(f"connections/{connection.makini_key}/restore-credentials")
    await house.sweep()
    await house.lose_login(connection)
    await work(house)
    assert len(await house.incidents()) == 1
    [case] = await house.rows(Reconnect)
    assert (case.attempt, case.outcome) == (2, None)
    assert len(await house.rows(ConnectLink)) == 2
    assert len({row.payload["idempotency_key"] for row in await outbox(house, "run")}) == 2


def next_weekday_noon(at: Any) -> Any:
    at = at.replace(hour=12)
    while at.weekday() >= 5:
        at += timedelta(days=1)
    return at
