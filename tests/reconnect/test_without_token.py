"""A login is lost of which Linekeeper has no token, and Makini makes none: its event says so."""

from datetime import timedelta

import pytest
from sqlalchemy import delete, update
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.health.evidence import Outcome
from linekeeper.reconnect.watch import watch
from linekeeper.store.tables import Connection, ConnectLink, Credential, Outbox, Transition
from tests.health.test_contradictions import said
from tests.receiver.test_connect import link_for, through
from tests.reconnect.conftest import House
from tests.reconnect.post import listening
from tests.reconnect.test_ask import Opened, asking, next_weekday_noon, work
from tests.reconnect.working_clock import at


async def lost_by_its_event(house: House) -> Connection:
    """A connection of which Makini's event says that the login is lost, and its list *Active*."""
    await house.control("settings", mint_shape="refused")
    async with house.store.write() as session:
        await session.execute(delete(Credential))
    await house.sweep()
    [connection, *_] = await house.connections()
    await said(house.rt, connection, Outcome.login_lost)
    return connection


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True, scope="session")  # the clock is ours
async def test_its_customer_is_asked_and_reminded_though_the_list_goes_on_saying_active(
    open_house: Opened,
) -> None:
    """Universe 30650: had the mail server been slower than the next sweep, nobody was asked."""
    async with listening() as post:
        house = await asking(open_house, post.url)
        post.answer = "451 not now"
        connection = await lost_by_its_event(house)
        await work(house)
        await house.sweep()
        post.answer = "250 OK"
        async with house.store.write() as session:
            of_mail = update(Outbox).where(col(Outbox.channel) == "email")
            await session.execute(of_mail.values(next_attempt_at=utcnow()))
        await work(house)
        assert [connection.provider in letter["Subject"] for letter in post.mails] == [True]

        day_after = next_weekday_noon(utcnow() + timedelta(days=2))
        with at(day_after):
            await house.sweep()
            await watch(house.rt, now=day_after)
            await work(house)
        assert len(post.mails) == 2
        assert len(await house.rows(ConnectLink)) == 1


async def test_its_incident_stays_what_it_is_and_says_what_the_list_says(house: House) -> None:
    connection = await lost_by_its_event(house)
    for _ in range(2):
        await house.sweep()
    [incident] = await house.incidents()
    assert (incident.kind, incident.status) == ("reauthorization_required", "open")
    about = col(Transition.connection_id) == connection.id
    kept = [row for row in await house.rows(Transition, about) if row.axis == "health"]
    assert kept[-1].after == "reauthorization_required"


async def test_that_a_synchronization_completed_does_not_end_it(house: House) -> None:
    """Universe 35244: Makini's synchronizations "complete" whether the login works or not."""
    connection = await lost_by_its_event(house)
    for _ in range(2):
        await house.sweep()
        await said(house.rt, connection, Outcome.answered, sync_updated_at=utcnow())
        assert (await house.connection(connection.id)).health == "reauthorization_required"
    assert [incident.status for incident in await house.incidents()] == ["open"]


async def test_that_makini_says_it_works_again_ends_it(house: House) -> None:
    connection = await lost_by_its_event(house)
    await house.sweep()
    await said(house.rt, connection, Outcome.answered)
    assert (await house.connection(connection.id)).health == "healthy"


async def test_a_login_by_the_link_ends_it(house: House) -> None:
    connection = await lost_by_its_event(house)
    await house.sweep()
    [incident] = await house.incidents()
    _, path = await link_for(house, connection, incident_id=incident.id)
    assert (await through(house, path, connection.makini_key)).status_code == 200
    for _ in range(2):
        assert (await house.connection(connection.id)).health == "healthy"
        await house.sweep()
