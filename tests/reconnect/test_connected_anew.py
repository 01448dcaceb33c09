"""A customer makes a new connection at Makini itself, and Makini mints no token for it.

Makini calls it active, and Linekeeper has no token of it: the product gets none. So it is not
reconnected before a token works, and its customer is asked once for a login by our link.
"""

from collections.abc import Awaitable, Callable
from datetime import timedelta

from linekeeper.clock import utcnow
from linekeeper.health.evidence import Outcome
from linekeeper.notify import compose
from linekeeper.notify.view import load_views
from linekeeper.reconnect.watch import watch
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Connection, Credential, Incident, Reconnect
from linekeeper.sweep.report_call import Call, record_call
from linekeeper.sweep.sweep import take_list
from tests.health.test_absence import minutes_pass
from tests.health.test_contradictions import said
from tests.receiver.test_connect import link_for, through
from tests.receiver.test_link_of_successor import connect_anew
from tests.reconnect.asked import asked
from tests.reconnect.conftest import House
from tests.reconnect.post import Post, text_of
from tests.reconnect.test_ask import next_weekday_noon, outbox, post, work
from tests.reconnect.working_clock import at

__all__ = ["post"]  # a fixture
Opened = Callable[..., Awaitable[House]]


async def succeeded(house: House, connection: Connection) -> Connection:
    """What stands in its place once two lists have told; Makini mints nothing by then."""
    await house.control("settings", mint_shape="refused")
    successor = connect_anew(house, connection.makini_key)
    await house.sweep()
    await minutes_pass(house.rt)
    await house.sweep()
    replaced_by = (await house.connection(connection.id)).replaced_by
    assert replaced_by is not None
    heir = await house.connection(replaced_by)
    assert heir.makini_key == successor.key
    assert not await house.rows(Credential, Credential.connection_id == heir.id)
    return heir


async def open_incidents(house: House) -> list[Incident]:
    return [each for each in await house.incidents() if each.resolved_at is None]


async def test_a_lost_login_is_not_found_again_without_a_token(house: House) -> None:
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    [lost] = await open_incidents(house)
    heir = await succeeded(house, connection)
    assert heir.health == "reauthorization_required"
    assert [each.id for each in await open_incidents(house)] == [lost.id]
    _, path = await link_for(house, heir)
    assert "connected anew at Makini" in (await house.http.get(path)).text
    assert (await through(house, path, heir.makini_key)).status_code == 200
    assert (await house.connection(heir.id)).health == "healthy"
    assert not await open_incidents(house)


async def test_one_that_was_well_and_was_made_anew_needs_a_login(house: House) -> None:
    [connection, *_] = await house.connections()
    heir = await succeeded(house, connection)
    assert heir.health == "reauthorization_required"
    [incident] = await open_incidents(house)
    assert incident.kind == "reauthorization_required"
    [view] = (await load_views(house.store, [incident.id])).values()
    shown = compose.plain(view, now=utcnow())
    assert "Linekeeper has no token of it" in shown
    assert "rejects the stored credentials" not in shown


async def test_no_word_of_makinis_brings_a_token(house: House) -> None:
    [connection, *_] = await house.connections()
    heir = await succeeded(house, connection)
    for outcome in (Outcome.answered, Outcome.login_restored):
        await said(house.rt, heir, outcome)
        await house.sweep()
        assert (await house.connection(heir.id)).health == "reauthorization_required"


async def test_a_call_of_the_product_says_that_it_has_one_where_the_app_is_observed(
    house: House,
) -> None:
    [connection, *_] = await house.connections()
    heir = await succeeded(house, connection)
    watcher = house.rt.settings.model_copy(update={"makini_mode": "observe"})
    async with Runtime.open(watcher) as observing:
        await take_list(observing, await observing.app("default"), now=utcnow())
        assert (await house.connection(heir.id)).health == "reauthorization_required"
        call = Call(200, utcnow())
        await record_call(observing, await observing.app("default"), heir.id, call)
    assert (await house.connection(heir.id)).health == "healthy"


async def test_a_token_that_makini_mints_ends_it(house: House) -> None:
    [connection, *_] = await house.connections()
    heir = await succeeded(house, connection)
    await house.control("settings", mint_shape="token")
    await house.sweep()
    assert (await house.connection(heir.id)).health == "healthy"
    assert not await open_incidents(house)


async def test_its_customer_gets_one_mail_and_operators_the_reminders(
    open_house: Opened, post: tuple[Post, str]
) -> None:
    mailbox, url = post
    house, connection = await asked(open_house, url)
    await succeeded(house, connection)
    await work(house)
    await house.sweep()
    await work(house)
    assert len(mailbox.mails) == 2
    assert "connected anew at Makini" in text_of(mailbox.mails[-1])
    [case] = await house.rows(Reconnect)
    later = next_weekday_noon(case.opened_at + timedelta(days=4))
    await watch(house.rt, now=later)
    with at(next_weekday_noon(utcnow() + timedelta(days=1))):
        await work(house)
    assert len(mailbox.mails) == 2
    assert any("please remind them" in str(row.payload) for row in await outbox(house, "slack"))


async def test_one_that_is_made_anew_once_more_has_the_next_one_in_its_place(house: House) -> None:
    """That nobody has its token says nothing of whether Makini still knows it."""
    [connection, *_] = await house.connections()
    heir = await succeeded(house, connection)
    last = await succeeded(house, heir)
    assert (await house.connection(heir.id)).setup == "disconnected"
    assert last.health == "reauthorization_required"
