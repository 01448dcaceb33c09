"""The mode of one connection, within an app that is in another."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from sqlmodel import col

from linekeeper.access.custody import return_tokens
from linekeeper.access.expiry import renew_ending
from linekeeper.access.invite import invite_again
from linekeeper.access.links import link_url
from linekeeper.access.mode_preview import ModePreview
from linekeeper.access.modes import StillRenewed, WantedMode, change, find_subjects, preview_change
from linekeeper.access.signing import load_signer
from linekeeper.clock import utcnow
from linekeeper.explain.notifying import why_unasked
from linekeeper.makini import ReadOnlyApp, TokenPair
from linekeeper.outbox.senders.reconnect import advance_due_cases
from linekeeper.reconcile.run import reconcile
from linekeeper.reconnect.disconnect import disconnect
from linekeeper.reconnect.watch import watch
from linekeeper.store.tables import Audit, Connection, ConnectLink, Customer, Record
from linekeeper.tokens.stored import save_tokens

from .conftest import House
from .post import Post, listening
from .test_ask import Opened, asking, work


@pytest.fixture
async def post() -> AsyncIterator[tuple[Post, str]]:
    async with listening() as server:
        yield server, server.url


async def wanted(
    house: House,
    *connections: Connection,
    mode: str | None = None,
    notify: bool | None = None,
    clears: bool = False,
) -> WantedMode:
    names = [connection.makini_key for connection in connections]
    subjects = await find_subjects(house.rt, connections=names)
    return WantedMode(subjects, mode, notify, clears)


async def set_mode(
    house: House, *connections: Connection, stop_renewing: bool = False, **what: Any
) -> ModePreview:
    return await change(
        house.rt,
        await wanted(house, *connections, **what),
        by="anna",
        now=utcnow(),
        stop_renewing=stop_renewing,
    )


def asked(house: House) -> dict[str, int]:
    """What of the sandbox's calls changes something, or reads records."""
    calls = house.fleet.world.calls
    return {
        "minted": calls["POST", "/api/system/connections/{key}/token"],
        "refreshed": calls["GRANT", "refresh_token"],
        "read": sum(n for (_, path), n in calls.items() if path.startswith("/api/eam")),
    }


async def pairs(house: House, *connections: Connection, ends: timedelta) -> None:
    """As a hand-over leaves them: pairs that are ours, and end then."""
    held = {}
    for connection in connections:
        known = house.fleet.world.find(connection.makini_key)
        assert known is not None
        pair = house.fleet.world.tokens.pair(known)
        held[connection.id] = TokenPair(pair.access, pair.refresh, utcnow() + ends)
    async with house.store.write() as session:
        await save_tokens(house.store, session, held, now=utcnow())


async def test_no_customer_of_an_observed_connection_is_asked_in_a_managed_app(
    open_house: Opened, post: tuple[Post, str]
) -> None:
    mailbox, url = post
    house = await asking(open_house, url)
    quiet, other, *_ = await house.connections()
    await set_mode(house, quiet, mode="observe", stop_renewing=True)
    for connection in (quiet, other):
        await house.lose_login(connection)
    await work(house)
    await watch(house.rt, now=utcnow() + timedelta(days=3))
    await work(house)
    asked_of = {link.connection_id for link in await house.rows(ConnectLink)}
    assert asked_of == {other.id}
    assert {mail["To"] for mail in mailbox.mails} == {
        f"it@{(await customer_of(house, other))}.example"
    }
    async with house.store.read() as session:
        configuration = await house.rt.configuration()
        said = [await why_unasked(session, configuration, each) for each in await house.incidents()]
    assert [line.rpartition(" by ")[2] for lines in said for line in lines] == ["anna"]
    assert "in mode observe by the rule for" in str(said)
    with pytest.raises(ReadOnlyApp, match="is in observe mode"):
        await invite_again(house.rt, quiet.makini_key, by="anna", now=utcnow())
    with pytest.raises(ReadOnlyApp, match="is in observe mode"):
        await disconnect(house.rt, quiet.makini_key, confirm=quiet.makini_key, by="anna")

    mailbox.mails.clear()
    seen = await preview_change(house.rt, await wanted(house, quiet, clears=True), now=utcnow())
    assert seen.links
    await set_mode(house, quiet, clears=True)
    await work(house)
    assert [mail["To"] for mail in mailbox.mails] == seen.people
    assert {link.connection_id for link in await house.rows(ConnectLink)} == {quiet.id, other.id}
    audited = [row.action for row in await house.rows(Audit, col(Audit.subject) == quiet.id)]
    assert audited.count("mode.set") == audited.count("mode.cleared") == 1


async def customer_of(house: House, connection: Connection) -> str:
    [customer] = await house.rows(Customer, col(Customer.id) == connection.customer_id)
    return customer.slug


async def test_a_mail_that_waits_leaves_out_what_is_observed_meanwhile(
    open_house: Opened, post: tuple[Post, str]
) -> None:
    mailbox, url = post
    house = await asking(open_house, url)
    first, *_ = await house.connections()
    await house.lose_login(first)
    assert await advance_due_cases(house.rt)
    [link] = await house.rows(ConnectLink)
    await set_mode(house, first, mode="observe", stop_renewing=True)
    await work(house)
    assert mailbox.mails == []
    page = link_url(await load_signer(house.store), "", link.id)
    answer = await house.http.get(page)
    assert answer.status_code == 410
    assert "not in use" in answer.text
    await set_mode(house, first, notify=False, mode="manage")
    assert (await house.http.get(page)).status_code == 200


async def test_nothing_is_minted_renewed_or_read_of_an_observed_connection(
    open_house: Opened,
) -> None:
    house = await open_house(makini_mode="observe", connections=4)
    first, second, *_ = await house.connections()
    before = asked(house)
    await pairs(house, first, second, ends=timedelta(days=2))
    await house.sweep()
    await reconcile(house.rt, full=True)
    assert (await renew_ending(house.rt, now=utcnow())).renewed == []
    assert asked(house) == before

    await set_mode(house, first, mode="manage")
    await house.sweep()
    await reconcile(house.rt, full=True)
    assert len((await renew_ending(house.rt, now=utcnow())).renewed) == 1
    after = asked(house)
    assert after["refreshed"] == before["refreshed"] + 1
    assert after["read"] > before["read"]
    assert after["minted"] == before["minted"]
    assert {row.connection_id for row in await house.rows(Record)} == {first.id}


async def test_a_dry_run_counts_what_then_happens(
    open_house: Opened, post: tuple[Post, str]
) -> None:
    mailbox, url = post
    house = await asking(open_house, url, makini_mode="observe", connections=12)
    rows = await house.connections()
    ending, lasting, without = rows[:3], rows[3:5], rows[5:7]
    await pairs(house, *ending, ends=timedelta(days=2))
    await pairs(house, *lasting, ends=timedelta(days=25))
    lost = rows[7:9]
    await pairs(house, *lost, ends=timedelta(days=25))
    for connection in lost:
        await house.lose_login(connection)
    await work(house)
    assert mailbox.mails == []
    chosen = [*ending, *lasting, *without, *lost]
    what = await wanted(house, *chosen, mode="manage")
    before = asked(house)
    seen = await preview_change(house.rt, what, now=utcnow())
    assert (len(seen.to_manage), len(seen.renewed), len(seen.minted)) == (9, 3, 2)
    assert len(seen.links) == len(seen.people) == 2
    assert "2 people would be notified at once, of a login that is lost already." in seen.lines(
        done=False
    )
    assert {row.mode for row in await house.connections()} == {None}
    assert asked(house) == before

    await change(house.rt, what, by="anna", now=utcnow())
    await work(house)
    assert sorted(mail["To"] for mail in mailbox.mails) == seen.people
    renewed = await renew_ending(house.rt, now=utcnow())
    assert len(renewed.renewed) == len(seen.renewed)
    await house.sweep()
    after = asked(house)
    assert after["refreshed"] - before["refreshed"] == len(seen.renewed)
    assert after["minted"] - before["minted"] == len(seen.minted)


async def test_back_to_observe_is_refused_while_tokens_are_renewed_here(
    open_house: Opened,
) -> None:
    house = await open_house(connections=3)
    first, *_ = await house.connections()
    await pairs(house, first, ends=timedelta(days=2))
    await renew_ending(house.rt, now=utcnow())
    with pytest.raises(StillRenewed, match="tokens export"):
        await set_mode(house, first, mode="observe")
    assert (await house.connection(first.id)).mode is None
    given = await return_tokens(house.rt, first, by="anna", now=utcnow())
    assert given is not None
    assert house.fleet.world.tokens.owner(given["access_token"]) is not None
    await set_mode(house, first, mode="observe")
    before = asked(house)
    await house.sweep()
    await reconcile(house.rt)
    await renew_ending(house.rt, now=utcnow() + timedelta(days=29))
    after = asked(house)
    assert (after["minted"], after["refreshed"]) == (before["minted"], before["refreshed"])
    assert house.fleet.world.tokens.owner(given["access_token"]) is not None
    assert house.fleet.world.tokens.refresh(given["refresh_token"]) is not None


async def test_two_who_set_modes_at_once_are_both_heard(open_house: Opened) -> None:
    house = await open_house(connections=4, makini_mode="observe")
    rows = await house.connections()
    await asyncio.gather(*(set_mode(house, row, mode="manage") for row in rows))
    assert {row.mode for row in await house.connections()} == {"manage"}


async def test_who_has_a_link_and_no_mail_is_written_to_once_that_is_switched_on(
    open_house: Opened, post: tuple[Post, str]
) -> None:
    mailbox, url = post
    house = await asking(open_house, url, connections=4)
    first, second, third, *_ = await house.connections()
    await set_mode(house, first, second, notify=False)
    for connection in (first, second, third):
        await house.lose_login(connection)
    await work(house)
    assert len(mailbox.mails) == 1  # the third's customer
    assert len(await house.rows(ConnectLink)) == 3
    mailbox.mails.clear()

    what = await wanted(house, first, third, notify=True)
    seen = await preview_change(house.rt, what, now=utcnow())
    assert seen.links == []
    assert seen.people == [f"it@{(await customer_of(house, first))}.example"]
    await change(house.rt, what, by="anna", now=utcnow())
    await work(house)
    assert [mail["To"] for mail in mailbox.mails] == seen.people
    assert len(await house.rows(ConnectLink)) == 3
    again = await preview_change(house.rt, what, now=utcnow())
    assert again.people == []
    await work(house)
    assert len(mailbox.mails) == 1
