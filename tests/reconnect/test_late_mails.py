"""Mails that waited together: a customer gets one, which says how things are now."""

from datetime import timedelta

import pytest
from sqlalchemy import update
from sqlmodel import col

from linekeeper.access.links import link_url
from linekeeper.access.signing import load_signer
from linekeeper.clock import utcnow
from linekeeper.incidents.operate import NoIncident
from linekeeper.outbox.queue import enqueue
from linekeeper.reconcile.backfill import reconcile_window
from linekeeper.reconnect.ask import send_again
from linekeeper.reconnect.case import load_case
from linekeeper.reconnect.counts import keep_counts
from linekeeper.reconnect.mails import mail
from linekeeper.reconnect.process import close, next_step
from linekeeper.reconnect.watch import watch
from linekeeper.store.tables import Connection, ConnectLink, IncidentConnection, Outbox
from linekeeper.sweep.sweep import take_list
from tests.reconnect.conftest import House
from tests.reconnect.post import Post, listening, text_of
from tests.reconnect.test_ask import Opened, asking, next_weekday_noon, work
from tests.reconnect.working_clock import at


async def test_a_reminder_that_waited_with_an_earlier_mail_is_not_sent(
    open_house: Opened,
) -> None:
    async with listening() as post:
        house = await asking(open_house, post.url)
        [connection, *_] = await house.connections()
        post.answer = "451 not now"
        await house.lose_login(connection)
        await work(house)
        [incident] = await house.incidents()
        assert connection.customer_id is not None
        async with house.store.write() as session:
            reminder = mail(incident.id, 1, connection.customer_id, "remind", "1")
            await enqueue(house.store, session, [reminder], now=utcnow())
        assert post.mails == []
        post.answer = "250 OK"
        async with house.store.write() as session:
            await session.execute(update(Outbox).values(next_attempt_at=utcnow()))
        with at(next_weekday_noon(utcnow() + timedelta(days=1))):
            await work(house)
        assert len(post.mails) == 1
        rows = await house.rows(Outbox, col(Outbox.channel) == "email")
        assert sorted((row.payload["do"], row.status) for row in rows) == [
            ("ask", "sent"),
            ("remind", "superseded"),
        ]


async def test_a_system_that_was_connected_anew_and_is_lost_again_is_asked_for_once(
    open_house: Opened,
) -> None:
    """Until the next complete list, nothing says that the old connection is gone for good."""
    async with listening() as post:
        house = await asking(open_house, post.url)
        before, after = await _connected_anew_and_lost(house, post)
        assert post.mails == []
        await _mail_is_taken(house, post)
        [letter] = post.mails
        assert before.provider in letter["Subject"]
        links = {link.connection_id: link.id for link in await house.rows(ConnectLink)}
        signer = await load_signer(house.store)
        url = house.rt.settings.resolved_public_url
        assert link_url(signer, url, links[after.id]) in text_of(letter)
        assert link_url(signer, url, links[before.id]) not in text_of(letter)

        app = await house.rt.app("default")  # a person accepts that the old one is gone
        await take_list(house.rt, app, now=utcnow(), accept_missing=True)
        assert (await house.connection(before.id)).replaced_by == after.id
        await _mail_is_taken(house, post)
        assert len(post.mails) == 1


async def test_a_connection_that_is_listed_again_is_asked_for_by_the_next_reminder(
    open_house: Opened,
) -> None:
    async with listening() as post:
        house = await asking(open_house, post.url)
        before, _ = await _connected_anew_and_lost(house, post)
        await _mail_is_taken(house, post)
        assert len(post.mails) == 1
        [member] = await house.rows(
            IncidentConnection, col(IncidentConnection.connection_id) == before.id
        )
        assert before.customer_id is not None
        moment = next_weekday_noon(utcnow() + timedelta(days=1))
        for number, listed in ((1, False), (2, True)):
            async with house.store.write() as session:
                await session.execute(  # a sweep has just looked
                    update(Connection).values(last_answered_at=moment, last_checked_at=moment)
                )
                if listed:
                    await session.execute(
                        update(Connection)
                        .where(col(Connection.id) == before.id)
                        .values(missing_since=None, unlisted_since=None)
                    )
                reminder = mail(member.incident_id, 1, before.customer_id, "remind", str(number))
                await enqueue(house.store, session, [reminder], now=utcnow())
            with at(moment):
                await work(house)
            assert len(post.mails) == number


async def test_nobody_is_thanked_for_a_login_that_the_new_connection_has_lost_again(
    open_house: Opened,
) -> None:
    async with listening() as post:
        house = await asking(open_house, post.url)
        before, after = await _connected_anew_and_lost(house, post, answer="250 OK")
        assert len(post.mails) == 2
        app = await house.rt.app("default")
        await take_list(house.rt, app, now=utcnow(), accept_missing=True)
        assert (await house.connection(before.id)).replaced_by == after.id
        first, second = await house.incidents()
        assert first.resolved_at is not None
        assert second.resolved_at is None
        case = await load_case(house.store, first.id, now=utcnow())
        assert case is not None
        assert next_step(case, "run") == "moved"
        await close(house.rt, first.id, "reconnected", now=utcnow())  # as before it was lost again
        await work(house)
        assert len(post.mails) == 2

        await house.restore_login(after)
        await close(house.rt, second.id, "reconnected", now=utcnow())
        await work(house)
        assert len(post.mails) == 3


async def test_nobody_is_thanked_for_a_login_of_which_only_makinis_list_says_that_it_works(
    open_house: Opened,
) -> None:
    """It was made anew, no token of it may be had, and the list says `Active` of a lost one, too"""
    async with listening() as post:
        house = await asking(open_house, post.url)
        before, after = await _connected_anew_and_lost(house, post, answer="250 OK", notified=False)
        app = await house.rt.app("default")
        await take_list(house.rt, app, now=utcnow(), accept_missing=True)
        assert (await house.connection(before.id)).replaced_by == after.id
        assert (after.health, after.evidence) == ("healthy", "listed")
        [incident] = await house.incidents()
        await close(house.rt, incident.id, "reconnected", now=utcnow())
        await work(house)
        assert not any("connected again" in mail["Subject"] for mail in post.mails)


@pytest.mark.parametrize("brought", ["all", "some failed", "nothing to compare with"])
async def test_a_thank_you_says_that_what_changed_was_fetched_only_where_that_is_known(
    open_house: Opened, brought: str
) -> None:
    async with listening() as post:
        house = await asking(open_house, post.url, is_read=brought != "nothing to compare with")
        [connection, *_] = await house.connections()
        await house.lose_login(connection)
        await work(house)
        await house.restore_login(connection)
        [incident] = await house.incidents()
        times = {"since": incident.opened_at, "until": utcnow()}
        counts = await reconcile_window(house.rt, connection.id, incident.opened_at)
        counts |= {"failed": 1} if brought == "some failed" else {}
        await keep_counts(house.rt, incident.id, connection.id, counts, **times)
        await close(house.rt, incident.id, "reconnected", now=utcnow())
        await work(house)
        said = text_of(post.mails[-1])
        assert "connected again" in said
        assert ("what changed meanwhile has been fetched" in said) is (brought == "all")


async def test_nobody_is_said_to_be_mailed_for_a_connection_that_seems_to_have_a_successor(
    open_house: Opened,
) -> None:
    async with listening() as post:
        house = await asking(open_house, post.url)
        _, after = await _connected_anew_and_lost(house, post, answer="250 OK")
        first, second = await house.incidents()
        mailed = len(post.mails)
        with pytest.raises(NoIncident, match="new connection"):
            await send_again(house.rt, first.id, by="petra", now=utcnow())
        said = await send_again(house.rt, second.id, by="petra", now=utcnow())
        assert said == "the link is mailed again"
        await work(house)
        assert len(post.mails) == mailed + 1

        await watch(house.rt, now=next_weekday_noon(utcnow() + timedelta(days=4)))
        reminders = [
            row.payload for row in await house.rows(Outbox) if "Still waiting" in str(row.payload)
        ]
        assert [reminder["incident_id"] for reminder in reminders] == [second.id]
        assert after.provider in reminders[0]["text"]


async def _connected_anew_and_lost(
    house: House, post: Post, answer: str = "451 not now", *, notified: bool = True
) -> tuple[Connection, Connection]:
    """A customer is asked, logs in elsewhere, and loses the login of the new connection at once.

    Else, where it is not told, nobody can ask the new connection for more than the list says.
    """
    [before, *_] = await house.connections()
    post.answer = answer
    await house.lose_login(before)
    await work(house)
    await house.control(f"connections/{before.makini_key}/disconnect")
    made = await house.control(
        "connections", name=before.name, provider=before.provider, email=before.email
    )
    if notified:
        await house.control(f"connections/{made['key']}/change-credentials")
    else:
        await house.control("settings", mint_shape="refused")
    await house.sweep()
    await work(house)
    [after] = [each for each in await house.connections() if each.makini_key == made["key"]]
    assert after.customer_id == before.customer_id
    if notified:
        lost = [after.health, (await house.connection(before.id)).health]
        assert lost == ["reauthorization_required"] * 2
    return before, after


async def _mail_is_taken(house: House, post: Post) -> None:
    """One mail at a time finds out that the server takes them again; a skipped one doesn't."""
    post.answer = "250 OK"
    of_mail = (col(Outbox.channel) == "email", col(Outbox.status) == "pending")
    for _ in range(len(await house.rows(Outbox, *of_mail))):
        async with house.store.write() as session:
            await session.execute(update(Outbox).where(*of_mail).values(next_attempt_at=utcnow()))
        await work(house)
    assert await house.rows(Outbox, *of_mail) == []
