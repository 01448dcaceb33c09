"""Somebody logged in by the link of a login that ends; then the pair of before is found refused."""

from datetime import timedelta

from sqlalchemy import update

from linekeeper.clock import utcnow
from linekeeper.reconnect.ask import advance_case
from linekeeper.store.tables import Connection, PendingLogin
from tests.receiver.test_connect import link_for
from tests.reconnect.conftest import House
from tests.reconnect.post import Post
from tests.reconnect.test_ask import Opened, asking, post, work
from tests.reconnect.test_kept_login_mails import log_in_while_away

__all__ = ["post"]  # a fixture


async def lost_and_looked_at(house: House, connection: Connection) -> str:
    await house.lose_login(connection)
    await work(house)
    [incident] = [each for each in await house.incidents() if each.resolved_at is None]
    assert incident.kind == "reauthorization_required"
    return str(incident.id)


async def test_who_has_just_logged_in_is_not_asked_until_an_hour_has_gone_by(
    open_house: Opened, post: tuple[Post, str]
) -> None:
    """Universe 34354: a login kills the pair of before, and it could not be verified yet."""
    mailbox, url = post
    house = await asking(open_house, url)
    [connection, *_] = await house.connections()
    _, path = await link_for(house, connection)
    await log_in_while_away(house, connection, path)
    await house.control(f"connections/{connection.makini_key}/come-online")
    assert len(await house.rows(PendingLogin)) == 1
    incident = await lost_and_looked_at(house, connection)
    assert mailbox.mails == []

    async with house.store.write() as session:
        await session.execute(
            update(PendingLogin).values(received_at=utcnow() - timedelta(minutes=61))
        )
    await advance_case(house.rt, incident, now=utcnow())
    await work(house)
    [mail] = mailbox.mails
    assert connection.provider in mail["Subject"]
