"""Somebody logged in while the system was away: nothing asks for that login once more."""

import asyncio
from datetime import timedelta

import pytest

from linekeeper.access.pending import kept_logins
from linekeeper.access.superseded import is_superseded
from linekeeper.access.verify import verify_logins
from linekeeper.clock import utcnow
from linekeeper.incidents.operate import NoIncident
from linekeeper.notify.compose import plain
from linekeeper.notify.view import load_views
from linekeeper.reconnect.ask import send_again
from linekeeper.reconnect.open_cases import OpenCase, WaitingMember
from linekeeper.reconnect.watch import due_steps
from linekeeper.store import new_id
from linekeeper.store.leases import holding
from linekeeper.store.tables import Audit, Connection, ConnectLink, IncidentEntry, PendingLogin
from linekeeper.views.connection_page import next_step
from linekeeper.views.fleet_queries import connection_reports
from tests.receiver.test_connect import authorize_link, link_for, log_in, through, token_of
from tests.reconnect.conftest import House, house, open_house

__all__ = ["house", "open_house"]  # fixtures


async def logged_in_while_it_was_away(house: House) -> tuple[Connection, str]:
    """A lost connection whose customer logged in, and its link; nothing could be verified."""
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    [incident] = await house.incidents()
    _, path = await link_for(house, connection, incident_id=incident.id)
    href = await authorize_link(house, path)
    location = await log_in(house, href, connection.makini_key)
    await house.control(f"connections/{connection.makini_key}/go-offline")
    assert (await house.http.get(location, timeout=30)).status_code == 502
    await house.sweep()
    return connection, path


async def message(house: House) -> str:
    """What Slack says of the one incident."""
    [incident] = await house.incidents()
    views = await load_views(house.store, [incident.id])
    return plain(views[incident.id], now=utcnow())


async def its_next_step(house: House, connection: Connection) -> str:
    configuration = await house.rt.configuration()
    [report] = await connection_reports(house.store, configuration, [connection.id], now=utcnow())
    return next_step(report)


async def test_a_login_that_waits_for_the_system_is_asked_for_nowhere(house: House) -> None:
    connection, path = await logged_in_while_it_was_away(house)
    shown = (await house.http.get(path)).text
    assert "is not verified yet" in shown
    assert "did not answer Makini at that moment" in shown
    assert "Please log in" not in shown
    said = await message(house)
    assert "Somebody logged in" in said
    assert "while the system did not answer Makini" in said
    assert "has to log in again" not in said
    assert "sync_status fail" in said  # Makini's word on the login, not on the system that is away
    assert "SYSTEM_UNAVAILABLE" not in said
    step = await its_next_step(house, connection)
    assert "somebody logged in at" in step
    assert "has to log in again" not in step

    await house.control(f"connections/{connection.makini_key}/come-online")
    await verify_logins(house.rt, now=utcnow() + timedelta(seconds=90))
    assert (await house.connection(connection.id)).health == "healthy"
    assert "RESOLVED" in await message(house)
    assert "Somebody logged in" not in await message(house)


async def test_a_login_to_another_system_by_the_same_link_leaves_it_kept(house: House) -> None:
    """Universe 12059: its pair was thrown away, and the customer asked to log in once more."""
    connection, path = await logged_in_while_it_was_away(house)
    [kept] = await house.rows(PendingLogin)
    *_, other = await house.connections()
    location = await log_in(house, await authorize_link(house, path), other.makini_key)
    assert (await house.http.get(location, timeout=30)).status_code == 409
    assert [row.id for row in await house.rows(PendingLogin)] == [kept.id]
    await house.control(f"connections/{connection.makini_key}/come-online")
    await verify_logins(house.rt, now=utcnow() + timedelta(seconds=90))
    assert (await house.connection(connection.id)).health == "healthy"
    assert await house.rows(PendingLogin) == []


async def test_an_older_login_that_is_kept_of_somebody_else_supersedes_none(house: House) -> None:
    """Its customer was mailed once more, and after an hour its pair would have been forgotten."""
    somebody_else, connection = (await house.connections())[:2]
    await kept_for(house, somebody_else)
    await house.lose_login(connection)
    _, path = await link_for(house, connection)
    assert (await through(house, path, connection.makini_key)).status_code == 200
    await kept_for(house, connection)
    async with house.store.read() as session:
        kept = await kept_logins(session, [somebody_else.id, connection.id])
        assert set(kept) == {somebody_else.id, connection.id}
        for pending in await house.rows(PendingLogin):
            assert not await is_superseded(session, pending.id)


async def kept_for(house: House, connection: Connection) -> None:
    """Its customer logs in while its system is away."""
    await house.lose_login(connection)
    _, path = await link_for(house, connection)
    location = await log_in(house, await authorize_link(house, path), connection.makini_key)
    await house.control(f"connections/{connection.makini_key}/go-offline")
    assert (await house.http.get(location, timeout=30)).status_code == 502


async def test_a_login_to_another_system_is_kept_beside_the_right_one_by_the_same_link(
    house: House,
) -> None:
    """Universe 30067: it was forgotten, and that other customer had to log in once more."""
    connection, other = (await house.connections())[:2]
    await house.lose_login(connection)
    _, path = await link_for(house, connection)
    location = await log_in(house, await authorize_link(house, path), other.makini_key)
    await house.control(f"connections/{other.makini_key}/go-offline")
    assert (await house.http.get(location, timeout=30)).status_code == 502
    assert (await through(house, path, connection.makini_key)).status_code == 200
    assert (await house.connection(connection.id)).health == "healthy"
    its_token = await token_of(house, connection)

    await house.control(f"connections/{other.makini_key}/come-online")
    await verify_logins(house.rt, now=utcnow() + timedelta(seconds=90))
    for each in (connection, other):
        bearer = {"Authorization": f"Bearer {await token_of(house, each)}"}
        answer = await house.makini.get("/api/integrations/current", headers=bearer)
        assert answer.status_code == 200, each.makini_key
    assert await token_of(house, connection) == its_token
    assert await house.rows(PendingLogin) == []
    assert [a.action for a in await house.rows(Audit)][-1] == "login.other_system"


async def test_a_person_who_mails_the_link_again_does_not_ask_who_logs_in_just_now(
    house: House,
) -> None:
    """Universe 15075: six minutes after a login its customer was mailed once more."""
    await logged_in_while_it_was_away(house)
    [incident] = await house.incidents()
    with pytest.raises(NoIncident, match="somebody logged in within the last hour"):
        await send_again(house.rt, incident.id, by="petra", now=utcnow())
    later = utcnow() + timedelta(minutes=61)  # nothing came of it yet: a person may decide
    assert "is mailed" in await send_again(house.rt, incident.id, by="petra", now=later)


async def test_a_kept_login_is_not_spoken_of_once_a_later_one_was_verified(house: House) -> None:
    connection, path = await logged_in_while_it_was_away(house)
    [kept] = await house.rows(PendingLogin)
    await house.control(f"connections/{connection.makini_key}/come-online")
    assert (await through(house, path, connection.makini_key)).status_code == 200
    async with house.store.write() as session:
        session.add(PendingLogin(**{**kept.model_dump(), "id": new_id()}))  # whoever's it is
    await house.lose_login(connection)
    step = await its_next_step(house, connection)
    assert "somebody logged in at" not in step
    assert "has to log in again" in step


async def test_a_kept_login_that_was_lost_again_before_it_was_verified_is_not_said_to_work(
    house: House,
) -> None:
    """Universe 33403: Makini's late word said that it works, and Slack that all was resolved."""
    connection, _ = await logged_in_while_it_was_away(house)
    await house.control(f"connections/{connection.makini_key}/come-online")
    found = house.fleet.world.find(connection.makini_key)
    assert found is not None
    await house.control(f"connections/{connection.makini_key}/change-credentials")
    found.lagging_status = "done"
    await house.sweep()
    await verify_logins(house.rt, now=utcnow() + timedelta(seconds=90))
    assert (await house.connection(connection.id)).health == "reauthorization_required"
    assert "RESOLVED" not in await message(house)
    assert await house.rows(PendingLogin) == []

    await house.restore_login(connection)
    assert (await house.connection(connection.id)).health == "healthy"
    assert "RESOLVED" in await message(house)


async def test_a_kept_login_that_ended_unverified_is_asked_for_again(house: House) -> None:
    connection, path = await logged_in_while_it_was_away(house)
    async with house.store.write() as session:
        [row] = await house.rows(PendingLogin)
        row.received_at -= timedelta(days=40)
        row.expires_at = utcnow() - timedelta(days=1)
        await session.merge(row)
    await verify_logins(house.rt, now=utcnow() + timedelta(seconds=90))
    assert "Please log in to" in (await house.http.get(path)).text
    assert "The customer has to log in again" in await message(house)
    assert "has to log in again" in await its_next_step(house, connection)
    entries = await house.rows(IncidentEntry)
    assert any("could not be verified before it expired" in entry.text for entry in entries)


async def test_a_kept_login_that_makini_refuses_for_a_day_is_asked_for_again(house: House) -> None:
    """It was asked about for a month, four times an hour, and nobody was reminded meanwhile."""
    connection, path = await logged_in_while_it_was_away(house)
    await house.control(f"connections/{connection.makini_key}/come-online")
    found = house.fleet.world.find(connection.makini_key)
    assert found is not None
    house.fleet.world.tokens.kill(found)
    now, first = utcnow(), None
    while await house.rows(PendingLogin):
        [row] = await house.rows(PendingLogin)
        now = max(now, row.retry_at)
        first = first or now
        await verify_logins(house.rt, now=now)
        async with house.store.write() as session:
            row = await session.get(PendingLogin, row.id)
            if row is not None:  # the clock of the test runs ahead
                row.retry_at = now + timedelta(minutes=min(2 ** min(row.attempts, 4), 15))
        assert now - first < timedelta(days=2)
    assert first is not None
    assert now - first > timedelta(hours=23)
    assert "Please log in to" in (await house.http.get(path)).text
    entries = await house.rows(IncidentEntry)
    assert any("Makini refuses it" in entry.text for entry in entries)


async def test_a_kept_login_whose_access_token_ended_is_renewed(house: House) -> None:
    """Universe 70161: its refresh token lived, and the customer was asked again a day later."""
    connection, _ = await logged_in_while_it_was_away(house)
    await house.control(f"connections/{connection.makini_key}/come-online")
    await house.control(f"connections/{connection.makini_key}/expire-token")
    await verify_logins(house.rt, now=utcnow() + timedelta(seconds=90))
    assert await house.rows(PendingLogin) == []
    assert (await house.connection(connection.id)).health == "healthy"


async def test_a_day_in_which_the_system_is_away_is_not_one_of_refusals(house: House) -> None:
    """Makini had said nothing of the login all day, and its first refusal ended it."""
    connection, _ = await logged_in_while_it_was_away(house)
    async with house.store.write() as session:
        [row] = await house.rows(PendingLogin)
        row.received_at -= timedelta(days=3)
        await session.merge(row)
    await house.control(f"connections/{connection.makini_key}/come-online")
    found = house.fleet.world.find(connection.makini_key)
    assert found is not None
    house.fleet.world.tokens.kill(found)
    await verify_logins(house.rt, now=utcnow() + timedelta(seconds=90))
    [row] = await house.rows(PendingLogin)
    assert row.refused_seconds == 60


def test_who_has_logged_in_is_not_reminded_and_not_said_to_be_silent() -> None:
    opened = utcnow() - timedelta(days=6)

    def case(*, has_logged_in: bool) -> OpenCase:
        waits = WaitingMember(
            "c", "Acme · SAP", "acme", "UTC", opened, 0, has_logged_in=has_logged_in
        )
        return OpenCase(
            incident_id="i",
            app="default",
            is_open=True,
            is_unsettled=False,
            over_at=opened + timedelta(days=7),
            attempt=1,
            run_id=None,
            opened_at=opened,
            snoozed_until=None,
            woken_at=None,
            outcome=None,
            waiting=[waits],
        )

    at_work = utcnow().replace(hour=12)
    while at_work.weekday() > 4:
        at_work -= timedelta(days=1)
    assert due_steps(case(has_logged_in=False), now=at_work)
    assert due_steps(case(has_logged_in=True), now=at_work) == []


async def test_of_two_logins_by_one_link_under_new_ids_the_later_one_counts_whoever_ends_first(
    house: House,
) -> None:
    """Universe 60145: the only pair that lived was thrown away, and the customer asked again."""
    world = house.fleet.world
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    _, path = await link_for(house, connection)
    asking, shown = "GET /api/integrations/current", []
    last = world.find(connection.makini_key)
    async with holding(house.store, "listing", "tests", subject="default", seconds=60):
        for _ in range(2):
            assert last is not None
            href, asked = await authorize_link(house, path), (await calls(house)).get(asking, 0)
            was, slug = last, last.provider.slug
            last = world.create(name=was.name, email=was.email, provider=slug, pending=True)
            place = await log_in(house, href, last.key)
            world.remove(was)
            shown.append(asyncio.create_task(house.http.get(place)))
            async with asyncio.timeout(30):
                while (await calls(house)).get(asking, 0) == asked:
                    await asyncio.sleep(0.02)
    for answer in await asyncio.gather(*shown):
        assert answer.status_code in (200, 400), answer.text  # whoever comes second
    [link] = await house.rows(ConnectLink)
    heir = await house.connection(str(link.used_for))
    assert last is not None
    assert (heir.makini_key, heir.setup, heir.health) == (last.key, "live", "healthy")
    bearer = {"Authorization": f"Bearer {await token_of(house, heir)}"}
    status = await house.makini.get("/api/integrations/current", headers=bearer)
    assert status.json()["data"]["sync_status"] == "done"


async def calls(house: House) -> dict[str, int]:
    """How often each of Makini's routes was called."""
    answer = await house.makini.get("/_control/calls")
    return dict(answer.json()["calls"])
