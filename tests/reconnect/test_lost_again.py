"""A login that works again, and is lost again in an incident that goes on for others."""

from datetime import timedelta

import pytest
from sqlalchemy import update
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.reconnect.ask import advance_case
from linekeeper.store.tables import Connection, ConnectLink, IncidentConnection
from tests.reconnect.conftest import House
from tests.reconnect.post import Post
from tests.reconnect.test_after_deadline import asking, joins, mailbox, work

__all__ = ["asking", "mailbox"]


@pytest.mark.parametrize("was_well", [True, False])
async def test_its_customer_is_asked_again_where_it_was_well_in_between(
    asking: House, mailbox: Post, was_well: bool
) -> None:
    """What only was unknown for a while is the same loss, and the same mail."""
    first, second, *_ = await asking.connections()
    await asking.lose_login(first)
    await work(asking)
    [incident] = await asking.incidents()
    began, well_at = utcnow() - timedelta(hours=2), utcnow() - timedelta(hours=1)
    await joins(asking, second, incident, began)
    await advance_case(asking.rt, incident.id, now=began)
    await work(asking)
    asked = len(mailbox.mails)
    async with asking.store.write() as session:
        await session.execute(
            update(IncidentConnection)
            .where(col(IncidentConnection.connection_id) == second.id)
            .values(left_at=well_at)
        )
        await session.execute(
            update(Connection)
            .where(col(Connection.id) == second.id)
            .values(last_good_at=well_at if was_well else began - timedelta(hours=1))
        )
    await joins(asking, second, incident, utcnow())
    for _ in range(3):  # once, however often it is looked at
        await advance_case(asking.rt, incident.id, now=utcnow())
        await work(asking)
    links = await asking.rows(ConnectLink, col(ConnectLink.connection_id) == second.id)
    assert len(links) == 1 + was_well
    assert len(mailbox.mails) == asked + was_well
