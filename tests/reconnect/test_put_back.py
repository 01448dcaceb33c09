"""An app that is taken out of the settings and put back: who was asked is not asked again."""

import re

import pytest
from sqlmodel import col, select

from linekeeper.clock import utcnow
from linekeeper.config import AppConfig
from linekeeper.explain.service import explain
from linekeeper.incidents.lifecycle import mark_reminded
from linekeeper.notify.compose import incident as incident_message
from linekeeper.notify.compose import plain
from linekeeper.notify.view import Links, load_views
from linekeeper.reconnect.case import load_case
from linekeeper.reconnect.process import close, next_step, take_up
from linekeeper.runtime import Runtime
from linekeeper.store.configuration import Blocks, save_blocks
from linekeeper.store.tables import (
    Connection,
    ConnectLink,
    Incident,
    IncidentConnection,
    Outbox,
    Reconnect,
)
from linekeeper.sweep.app import close_removed
from linekeeper.views.digest_page import gather, slack_text
from tests.reconnect.conftest import House
from tests.reconnect.post import listening, text_of
from tests.reconnect.test_ask import Opened, asking, work


async def configured(house: House, *apps: AppConfig) -> None:
    """What a sweep does first once the settings name these apps alone."""
    await save_blocks(house.store, Blocks(apps=list(apps)), now=utcnow())
    async with Runtime.open(house.rt.settings) as rt:
        await close_removed(rt, now=utcnow())
        house.rt = rt
        await work(house)


async def taken_out_and_put_back(house: House, *, is_closed: bool) -> None:
    """With a run that sees the end meanwhile, or one that is too slow for that."""
    app = await house.rt.app("default")
    [incident] = await house.incidents()
    await take_up(house.rt, incident.id, "a run", now=utcnow())
    await configured(house, app.model_copy(update={"name": "other"}))
    case = await load_case(house.store, incident.id, now=utcnow())
    assert case is not None
    assert case.incident.resolved_at is not None
    assert next_step(case, "a run") == "moved"
    if is_closed:
        await close(house.rt, incident.id, "moved", now=utcnow())
    await configured(house, app)
    [incident] = await house.incidents()
    assert incident.resolved_at is None


@pytest.mark.parametrize("is_closed", [True, False])
async def test_nobody_is_mailed_again(open_house: Opened, is_closed: bool) -> None:
    async with listening() as post:
        house = await asking(open_house, post.url)
        [connection, *_] = await house.connections()
        await house.lose_login(connection)
        await work(house)
        [incident] = await house.incidents()
        async with house.store.write() as session:
            await mark_reminded(session, incident.id, [connection.id], 1)
        await taken_out_and_put_back(house, is_closed=is_closed)
        [mail] = post.mails
        [path] = re.findall(r"/connect/[\w-]+", text_of(mail))
        assert (await house.http.get(path)).status_code == 200
        [link] = await house.rows(ConnectLink)
        assert link.used_at is None
        [case] = await house.rows(Reconnect)
        assert (case.closed_at, case.outcome) == (None, None)
        here = await house.rows(IncidentConnection, col(IncidentConnection.left_at).is_(None))
        if is_closed:  # a run of its own goes on with it, and the first finds that it is over
            runs = await house.rows(Outbox, col(Outbox.dedupe_key).like("run:reconnect:%"))
            assert len({row.payload["idempotency_key"] for row in runs}) == 2
            assert case.replaced_runs == ["a run"]
            assert [each.reminded for each in here] == [1]


async def says(house: House) -> str:
    """What its one incident says in Slack and in plain text."""
    [incident] = await house.incidents()
    [view] = (await load_views(house.store, [incident.id])).values()
    return plain(view, now=utcnow()) + incident_message(view, now=utcnow()).text


async def test_while_it_is_out_nobody_says_that_the_trouble_is_over(open_house: Opened) -> None:
    async with listening() as post:
        house = await asking(open_house, post.url)
        [connection, *_] = await house.connections()
        await house.lose_login(connection)
        app = await house.rt.app("default")

        await configured(house, app.model_copy(update={"name": "other"}))
        out = await says(house)
        assert "ended as its app was removed" in out
        assert "taken out of the settings" in out
        assert not re.search("resolved|nothing to do|green", out, re.IGNORECASE)
        digest = slack_text(await gather(house.store, {}, now=utcnow()), Links())
        assert "1 new incident, 0 resolved" in digest
        assert "as its app was removed" in digest
        [incident] = await house.incidents()
        explained = await explain(
            house.store, await house.rt.configuration(), incident.id, now=utcnow()
        )
        assert [hop.text for hop in explained.hops][-1] == "Ended as its app was removed"
        await configured(house, app)
        async with Runtime.open(house.rt.settings) as rt:
            house.rt = rt
            await house.restore_login(connection)
        back = await says(house)
        assert "— resolved" in back
        assert "was removed" not in back


async def test_what_ended_unwatched_says_so_also_once_its_app_is_put_back(
    open_house: Opened,
) -> None:
    """The customer logged in while nobody looked: it was not seen to be resolved, and then."""
    async with listening() as post:
        house = await asking(open_house, post.url)
        [connection, *_] = await house.connections()
        await house.lose_login(connection)
        app = await house.rt.app("default")

        await configured(house, app.model_copy(update={"name": "other"}))
        out = await says(house)
        await house.control(f"connections/{connection.makini_key}/restore-credentials")
        async with house.store.write() as session:
            row = await session.get_one(Connection, connection.id)
            row.health = "healthy"  # as its next probe finds it
        await configured(house, app)
        assert await says(house) == out
        assert "any more" not in out


async def test_nor_where_another_customer_lost_the_login_meanwhile(open_house: Opened) -> None:
    """Universe 33817: who joined the incident had everybody in it mailed again."""
    async with listening() as post:
        house = await asking(open_house, post.url)
        [connection, other, *_] = await house.connections()
        await house.lose_login(connection)
        await work(house)
        [incident] = await house.incidents()
        app = await house.rt.app("default")
        await configured(house, app.model_copy(update={"name": "other"}))
        await close(house.rt, incident.id, "moved", now=utcnow())
        await save_blocks(house.store, Blocks(apps=[app]), now=utcnow())
        async with Runtime.open(house.rt.settings) as rt:
            house.rt = rt
            await close_removed(rt, now=utcnow())
            await house.lose_login(other)
            await join(house, other, incident.id)
            await work(house)
            asked = [mail["To"] for mail in post.mails]
        assert len(asked) == len(set(asked)) == 2


async def join(house: House, connection: Connection, incident_id: str) -> None:
    """Its loss becomes part of the incident, as where one cause has several members."""
    async with house.store.write() as session:
        [theirs] = await session.scalars(
            select(IncidentConnection).where(
                IncidentConnection.connection_id == connection.id,
                col(IncidentConnection.left_at).is_(None),
            )
        )
        if theirs.incident_id != incident_id:
            (await session.get_one(Incident, theirs.incident_id)).resolved_at = utcnow()
            theirs.incident_id = incident_id


async def test_whose_login_was_lost_anew_is_asked(open_house: Opened) -> None:
    async with listening() as post:
        house = await asking(open_house, post.url)
        [connection, *_] = await house.connections()
        await house.lose_login(connection)
        await work(house)
        await taken_out_and_put_back(house, is_closed=True)
        app = await house.rt.app("default")
        [incident] = await house.incidents()
        await configured(house, app.model_copy(update={"name": "other"}))
        await close(house.rt, incident.id, "moved", now=utcnow())
        async with house.store.write() as session:  # it worked meanwhile, and is lost again
            lost = await session.get_one(Connection, connection.id)
            lost.health_since = utcnow()
        await configured(house, app)
        assert len(post.mails) == 2
