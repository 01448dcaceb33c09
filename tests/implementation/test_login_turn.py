"""Whose turn a login is: the customer's until the login, ours until a record was read."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update
from sqlmodel import col

from linekeeper.implementation.advance import ready
from linekeeper.implementation.report import implementation_markdown
from linekeeper.notify.view import Links
from linekeeper.store import new_id
from linekeeper.store.tables import AuthenticationSetup, Connection, ConnectLink
from tests.implementation.conftest import Office

GATE = "authentication-1"


async def logs_in(office: Office, progress: Any) -> str:
    """The customer logs in by a link, and no read succeeds with the new token."""
    connection = await office.connects("Acme", "SAP ECC", health="unknown", last_good_at=None)
    standing = progress.standing
    async with office.store.write() as session:
        link = ConnectLink(
            id=new_id(),
            app="default",
            customer_id=standing.customer.id,
            system="SAP ECC",
            created_at=office.now - timedelta(hours=1),
            created_by="Petra",
            expires_at=office.now + timedelta(days=6),
            used_at=office.now,
            used_for=connection,
        )
        session.add(link)
        session.add(
            AuthenticationSetup(
                id=new_id(),
                run_id=new_id(),
                system_id=standing.systems[0].id,
                started_at=office.now - timedelta(hours=1),
                started_by="Petra",
                logins_from=office.now - timedelta(hours=1),
            )
        )
    return connection


async def test_from_the_login_on_it_is_our_turn_until_a_record_was_read(office: Office):
    started = await office.start()
    await office.says(started.progress, "kickoff")
    office.later(days=1)
    connection = await logs_in(office, started.progress)
    progress = await office.advance(started.progress)
    row = await office.gate(progress, GATE)
    assert row.status == "open"
    page = implementation_markdown(progress, office.now, Links())
    [line] = [line for line in page.splitlines() if line.startswith(f"- {row.title}")]
    assert "our turn" in line
    by_then = progress.evaluation.waited["customer"]
    assert by_then == pytest.approx(1.0)
    async with office.store.read() as session:
        assert not await ready(session, now=office.now), "it goes over once"

    office.later(days=2)
    progress = await office.advance(started.progress)
    assert progress.evaluation.waited["customer"] == pytest.approx(by_then)
    assert progress.evaluation.waited["us"] >= 2.0

    async with office.store.write() as session:
        await session.execute(update(AuthenticationSetup).values(verified_at=office.now))
        await session.execute(
            update(Connection)
            .where(col(Connection.id) == connection)
            .values(health="healthy", last_good_at=office.now)
        )
    progress = await office.advance(started.progress)
    row = await office.gate(progress, GATE)
    assert (row.status, row.owner) == ("done", "customer")
    assert progress.evaluation.waited["customer"] == pytest.approx(by_then)


async def test_it_is_the_customers_turn_again_once_a_new_login_was_asked_for(office: Office):
    started = await office.start()
    await office.says(started.progress, "kickoff")
    await logs_in(office, started.progress)
    await office.advance(started.progress)
    office.later(days=1)
    async with office.store.write() as session:
        await session.execute(update(AuthenticationSetup).values(logins_from=office.now))
    before = (await office.advance(started.progress)).evaluation.waited["customer"]
    assert (await office.gate(started.progress, GATE)).owner == "customer"
    office.later(days=1)
    after = (await office.advance(started.progress)).evaluation.waited["customer"]
    assert after - before == pytest.approx(1.0)
