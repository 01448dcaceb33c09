"""A case that time or people ended: what the customer does afterwards is worked on all the same."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta

import pytest
from pydantic import SecretStr
from sqlalchemy import update
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.outbox.senders.reconnect import advance_due_cases
from linekeeper.reconnect.ask import advance_case
from linekeeper.reconnect.case import load_case
from linekeeper.reconnect.process import FormAnswer, close, next_step, take_answer, take_up
from linekeeper.reconnect.remind import DEADLINE
from linekeeper.reconnect.watch import watch
from linekeeper.store.tables import (
    Connection,
    ConnectLink,
    Contact,
    Customer,
    Incident,
    IncidentConnection,
    Outbox,
    Reconnect,
)
from tests.delivering import deliver_mail

from .conftest import House
from .post import Post, listening

Opened = Callable[..., Awaitable[House]]
RUN = "01977e0a-0000-7000-8000-000000000001"


@pytest.fixture
async def mailbox() -> AsyncIterator[Post]:
    async with listening() as server:
        yield server


@pytest.fixture
async def asking(open_house: Opened, mailbox: Post) -> House:
    house = await open_house(
        smtp_url=SecretStr(mailbox.url), mail_from="Line <line@op.example>", notify_customers=True
    )
    async with house.store.write() as session:
        for customer in await house.rows(Customer):
            session.add(Contact(customer_id=customer.id, email=f"it@{customer.slug}.example"))
    return house


async def work(house: House) -> None:
    """What the consumer does, until nothing is left."""
    while await advance_due_cases(house.rt) | await deliver_mail(house.rt):
        pass


async def lost_for_a_week(house: House) -> tuple[Connection, Incident]:
    """A lost login of which the deadline has passed, by the database's own times."""
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    await work(house)
    [incident] = await house.incidents()
    week = DEADLINE + timedelta(minutes=5)
    case, [member], [link] = (
        await only_case(house),
        await house.rows(IncidentConnection),
        (await house.rows(ConnectLink)),
    )
    async with house.store.write() as session:
        await session.execute(
            update(Reconnect).values(
                opened_at=case.opened_at - week, deadline_at=case.deadline_at - week
            )
        )
        await session.execute(update(IncidentConnection).values(joined_at=member.joined_at - week))
        await session.execute(update(ConnectLink).values(expires_at=link.expires_at - week))
    return connection, incident


async def end(house: House, incident: Incident, how: str) -> None:
    """The case ends as its run ends it."""
    now = utcnow()
    await take_up(house.rt, incident.id, RUN, now=now)
    if how == "given_up":
        answer = FormAnswer(by="Ada", give_up=True)
        await take_answer(house.rt, incident.id, 1, answer, now=now)
    else:
        await watch(house.rt, now=now)
    case = await load_case(house.store, incident.id, now=now)
    assert case is not None
    assert next_step(case, RUN) == how
    await close(house.rt, incident.id, how, now=now)


async def runs(house: House) -> list[str]:
    rows = await house.rows(Outbox, col(Outbox.channel) == "run")
    return sorted(key for row in rows if (key := row.payload.get("idempotency_key")))


async def only_case(house: House) -> Reconnect:
    [case] = await house.rows(Reconnect)
    return case


async def restore(house: House, connection: Connection) -> None:
    await house.control(f"connections/{connection.makini_key}/restore-credentials")
    await house.sweep()
    await work(house)


@pytest.mark.parametrize("how", ["not_in_time", "given_up"])
async def test_a_login_after_the_end_is_verified_backfilled_and_closed_by_a_run(
    asking: House, how: str
) -> None:
    """The customer had read that what changed is being fetched; nothing fetched it."""
    connection, incident = await lost_for_a_week(asking)
    await end(asking, incident, how)
    assert await runs(asking) == [f"reconnect:{incident.id}:1:1"]
    await restore(asking, connection)
    assert await runs(asking) == [f"reconnect:{incident.id}:1:{turn}" for turn in (1, 2)]
    another = RUN.replace("1", "2")
    case = await take_up(asking.rt, incident.id, another, now=utcnow())
    assert next_step(case, another) == "verify"
    assert case.reconnect is not None
    assert connection.id in case.reconnect.windows
    await close(asking.rt, incident.id, "reconnected", now=utcnow())
    assert (await only_case(asking)).outcome == "reconnected"


@pytest.mark.parametrize("how", ["not_in_time", "given_up"])
async def test_the_link_stays_in_slack_for_whoever_calls_the_customer(
    asking: House, how: str
) -> None:
    """It had gone with the next change, and the message promised that it follows."""
    _, incident = await lost_for_a_week(asking)
    await advance_case(asking.rt, incident.id, now=utcnow())  # the first one has expired
    [shown] = [each.connect_url for each in await asking.incidents()]
    await end(asking, incident, how)
    assert shown is not None
    assert [each.connect_url for each in await asking.incidents()] == [shown]


@pytest.mark.parametrize("has_ended", [True, False])
@pytest.mark.parametrize("how", ["not_in_time", "given_up"])
async def test_a_login_lost_again_after_the_end_is_asked_for_again(
    asking: House, mailbox: Post, how: str, has_ended: bool
) -> None:
    """Its incident is the one of before, whose case was over: nobody was asked, for ever."""
    connection, incident = await lost_for_a_week(asking)
    await end(asking, incident, how)
    await restore(asking, connection)
    if has_ended:
        await close(asking.rt, incident.id, "reconnected", now=utcnow())
    before, links = len(mailbox.mails), len(await asking.rows(ConnectLink))
    await asking.lose_login(connection)
    await work(asking)
    assert [each.id for each in await asking.incidents()] == [incident.id]
    assert len(await asking.rows(ConnectLink)) == links + 1
    assert len(mailbox.mails) >= before + 1
    await watch(asking.rt, now=utcnow())
    case = await only_case(asking)
    assert (case.closed_at, case.outcome) == (None, None)


async def test_who_loses_a_login_in_an_incident_whose_case_has_ended_is_asked(
    asking: House, mailbox: Post
) -> None:
    _, incident = await lost_for_a_week(asking)
    await end(asking, incident, "not_in_time")
    now = utcnow()
    await advance_case(asking.rt, incident.id, now=now)
    assert (await only_case(asking)).outcome == "not_in_time", "nobody new"
    other = (await asking.connections())[1]
    await joins(asking, other, incident, now)
    await advance_case(asking.rt, incident.id, now=now)
    await work(asking)
    links = await asking.rows(ConnectLink, col(ConnectLink.connection_id) == other.id)
    assert len(links) == 1
    assert f"reconnect:{incident.id}:2:1" in await runs(asking)


async def joins(house: House, connection: Connection, incident: Incident, now: datetime) -> None:
    async with house.store.write() as session:
        session.add(
            IncidentConnection(incident_id=incident.id, connection_id=connection.id,
                               kind=incident.kind, joined_at=now)
        )  # fmt: skip
        await session.execute(
            update(Connection)
            .where(col(Connection.id) == connection.id)
            .values(health=incident.kind, health_since=now)
        )
