"""A pair that Makini replaced while its answer was lost: what is known of it is what is said."""

import signal
from collections.abc import Awaitable, Callable

import pytest

from linekeeper.clock import utcnow
from linekeeper.notify import compose
from linekeeper.notify.view import load_views
from linekeeper.store.tables import Connection, Credential, Customer
from linekeeper.views.connection_page import next_step
from linekeeper.views.fleet_queries import connection_reports
from tests.access.test_renew import (
    a_pair,
    in_a_process_that_dies_at_the_commit,
    its_lease_runs_out,
)
from tests.receiver.test_connect import link_for
from tests.reconnect.conftest import House, house, open_house
from tests.reconnect.post import Post, text_of
from tests.reconnect.test_ask import asking, post, work

__all__ = ["house", "open_house", "post"]  # fixtures
Opened = Callable[..., Awaitable[House]]
_MAILED = {
    "en": ("renew", "password does not need to be changed", "Most often its password was changed"),
    "de": ("erneuert", "asswort müssen Sie nicht ändern", "Meistens wurde das Passwort geändert"),
}


async def shown(house: House, connection: Connection) -> str:
    """What the incident's message, and the connection's page, say of its lost login."""
    [incident] = [each for each in await house.incidents() if each.resolved_at is None]
    assert incident.kind == "reauthorization_required"
    [view] = (await load_views(house.store, [incident.id])).values()
    configuration = await house.rt.configuration()
    [report] = await connection_reports(house.store, configuration, [connection.id], now=utcnow())
    return f"{compose.plain(view, now=utcnow())}\n{next_step(report)}"


@pytest.mark.parametrize("locale", ["en", "de"])
async def test_a_login_lost_with_makinis_answer_to_a_renewal_is_not_called_a_changed_password(
    open_house: Opened, post: tuple[Post, str], locale: str
) -> None:
    mailbox, url = post
    house = await asking(open_house, url)
    [connection, *_] = await house.connections()
    async with house.store.write() as session:
        customer = await session.get_one(Customer, connection.customer_id)
        customer.locale = locale
    await a_pair(house, connection)
    assert await in_a_process_that_dies_at_the_commit(house, connection) == -signal.SIGKILL
    await house.control("settings", mint_shape="refused")
    await its_lease_runs_out(house)
    await house.sweep()
    text = await shown(house, connection)
    assert "answer with the new ones was lost" in text
    assert "rejects the stored credentials" not in text

    await work(house)
    [mail] = mailbox.mails
    said, also, never = _MAILED[locale]
    written = " ".join(text_of(mail).split())
    assert said in written
    assert also in written
    assert never not in written
    _, path = await link_for(house, connection)
    page = (await house.http.get(path)).text
    assert also in page
    assert never not in page


async def test_a_login_whose_renewal_was_refused_is_one_that_the_system_rejects(
    house: House,
) -> None:
    [connection, *_] = await house.connections()
    await a_pair(house, connection)
    await house.control(f"connections/{connection.makini_key}/expire-token", refresh=True)
    await house.control("settings", mint_shape="refused")
    await house.sweep()
    [pair] = await house.rows(Credential, Credential.connection_id == connection.id)
    assert pair.refresh_unanswered_since is None
    assert "rejects the stored credentials" in await shown(house, connection)
