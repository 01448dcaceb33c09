"""Somebody logged in while the system was away: mails without an incident ask no more either."""

from datetime import UTC, datetime, timedelta

from linekeeper.access.links import link_url
from linekeeper.access.signing import load_signer
from linekeeper.authentication_setup.watch import watch
from linekeeper.clock import utcnow
from linekeeper.notify.letters import ending_letter, setup_letter
from linekeeper.reconnect.ending import announce_ending
from linekeeper.store.tables import AuthenticationSetup, Connection, ConnectLink, Outbox
from tests.receiver.test_connect import authorize_link, link_for, log_in
from tests.reconnect.conftest import House
from tests.reconnect.test_ending import asking, mails, refused

__all__ = ["asking"]  # a fixture

MONDAY = datetime(2031, 3, 3, 10, tzinfo=UTC)
TUESDAY = MONDAY + timedelta(days=1, hours=1)
WEDNESDAY = MONDAY + timedelta(days=2, hours=1)


async def set_up(house: House, connection: Connection) -> str:
    """A set-up that asked the customer on Monday, and waits; the path of its link."""
    link, path = await link_for(house, connection)
    async with house.store.write() as session:
        held = await session.get_one(ConnectLink, link.id)
        held.expires_at = MONDAY + timedelta(days=7)
        session.add(
            AuthenticationSetup(
                run_id="a-run", connection_id=connection.id, started_at=link.created_at,
                started_by="Olaf", logins_from=link.created_at, confirmed_at=link.created_at,
                asked_at=MONDAY, is_mailed=True, link_id=link.id, waits_for="login",
                look_at=held.expires_at,
            )
        )  # fmt: skip
    return path


async def log_in_while_away(house: House, connection: Connection, path: str) -> None:
    location = await log_in(house, await authorize_link(house, path), connection.makini_key)
    await house.control(f"connections/{connection.makini_key}/go-offline")
    assert (await house.http.get(location, timeout=30)).status_code == 502


async def test_a_login_that_waits_for_the_system_is_reminded_of_by_nobody(house: House) -> None:
    """The customer was mailed *please connect* again, though the page says that it is done."""
    [connection, *_] = await house.connections()
    path = await set_up(house, connection)
    assert await watch(house.rt, now=TUESDAY) == 0
    [first] = await house.rows(Outbox, Outbox.channel == "email")
    signer = await load_signer(house.store)
    apps = {
        name: app.model_copy(update={"notify_customers": True})
        for name, app in (await house.rt.configuration()).apps.items()
    }
    assert await setup_letter(house.store, first, signer, "", apps) is not None

    await log_in_while_away(house, connection, path)
    assert await setup_letter(house.store, first, signer, "", apps) is None
    assert await watch(house.rt, now=WEDNESDAY) == 0
    assert len(await house.rows(Outbox, Outbox.channel == "email")) == 1


async def test_a_login_that_ends_is_asked_for_no_more_once_somebody_has_logged_in(
    asking: House,
) -> None:
    connection, ends_at = await refused(asking, ends_in=timedelta(days=6))
    await announce_ending(asking.rt, now=utcnow())
    [link] = await asking.rows(ConnectLink)
    signer = await load_signer(asking.store)
    apps = (await asking.rt.configuration()).apps
    await announce_ending(asking.rt, now=ends_at - timedelta(days=2))
    [_, reminder] = await mails(asking)
    assert await ending_letter(asking.store, reminder, signer, "", apps) is not None
    await log_in_while_away(asking, connection, link_url(signer, "", link.id))
    assert await ending_letter(asking.store, reminder, signer, "", apps) is None
