"""While somebody works on a system, or all of Linekeeper is paused, its customer is not asked."""

from datetime import timedelta

import pytest
from sqlalchemy import update
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.incidents.operate import begin
from linekeeper.outbox.senders.slack import deliver_due
from linekeeper.reconnect.ask import advance_case
from linekeeper.reconnect.watch import watch
from linekeeper.store.tables import ConnectLink, Outbox, Reconnect, Silence
from linekeeper.watch.queries import note_prefect
from tests.reconnect.conftest import House
from tests.reconnect.post import Post
from tests.reconnect.test_ask import Opened, asking, post, work

__all__ = ["post"]  # a fixture


async def rest(house: House, how: str, subject: str) -> None:
    """Begin a window, or a pause of everything."""
    if how == "pause":
        await note_prefect(house.store, {}, paused=True)
        return
    await begin(
        house.store,
        kind="maintenance",
        scope="connection",
        wanted=subject,
        starts_at=utcnow(),
        lasts=timedelta(hours=2),
        by="Ann",
        reason="patch",
        now=utcnow(),
    )


async def resume(house: House, how: str) -> None:
    """Its end; what was to be looked at again is due."""
    now = utcnow()
    if how == "pause":
        await note_prefect(house.store, {}, paused=False)
    async with house.store.write() as session:
        if how != "pause":
            await session.execute(update(Silence).values(ended_at=now))
        await session.execute(
            update(Outbox)
            .where(col(Outbox.channel) == "reconnect", col(Outbox.status) == "pending")
            .values(next_attempt_at=now)
        )


@pytest.mark.parametrize("how", ["maintenance", "pause"])
async def test_nobody_is_asked_before_its_end(
    open_house: Opened, post: tuple[Post, str], how: str
) -> None:
    mailbox, url = post
    house = await asking(open_house, url)
    [connection, *_] = await house.connections()
    await rest(house, how, connection.makini_key)
    await house.lose_login(connection)
    await work(house)
    await house.sweep()
    await work(house)
    assert mailbox.mails == []
    assert await house.rows(ConnectLink) == []
    assert (await house.connection(connection.id)).health == "reauthorization_required"
    delivered = await deliver_due(house.store, await house.rt.configuration(), "tests")
    assert delivered.unsent == []
    [again] = await house.rows(
        Outbox, col(Outbox.channel) == "reconnect", col(Outbox.status) == "pending"
    )
    assert again.next_attempt_at <= utcnow() + timedelta(minutes=5)
    await resume(house, how)
    await work(house)
    [mail] = mailbox.mails
    assert connection.provider in mail["Subject"]


async def test_however_often_it_is_looked_at_one_look_is_planned_and_none_is_left_out(
    open_house: Opened, post: tuple[Post, str]
) -> None:
    house = await asking(open_house, post[1])
    [connection, *_] = await house.connections()
    await rest(house, "maintenance", connection.makini_key)
    await house.lose_login(connection)
    [incident] = await house.incidents()
    start = utcnow().replace(second=10)
    async with house.store.write() as session:
        window = {"starts_at": start - timedelta(hours=1), "ends_at": start + timedelta(minutes=20)}
        await session.execute(update(Silence).values(**window))

    async def planned() -> list[Outbox]:
        where = (col(Outbox.status) == "pending", col(Outbox.due_at).is_not(None))
        return await house.rows(Outbox, col(Outbox.channel) == "reconnect", *where)

    for seconds in range(0, 290, 20):
        await advance_case(house.rt, incident.id, now=start + timedelta(seconds=seconds))
    [look] = await planned()
    assert look.next_attempt_at == start + timedelta(minutes=5)

    async with house.store.write() as session:
        await session.execute(update(Silence).values(ends_at=start + timedelta(seconds=20)))
    await advance_case(house.rt, incident.id, now=start)
    [look] = await planned()
    assert look.next_attempt_at == start + timedelta(seconds=20)
    async with house.store.write() as session:
        await session.execute(update(Silence).values(ends_at=start + timedelta(seconds=40)))
        done = {"status": "sent", "settled_at": start}
        await session.execute(update(Outbox).where(col(Outbox.id) == look.id).values(**done))
    await advance_case(house.rt, incident.id, now=start + timedelta(seconds=20))
    assert len(await planned()) == 1, "nobody would look at the end of the window"


async def test_a_run_is_woken_once_after_prefect_was_away(open_house: Opened) -> None:
    house = await open_house(connections=3)
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    await work(house)
    [incident] = await house.incidents()
    async with house.store.write() as session:
        run = {"run_id": "01a227db-7741-76e5-b50b-da007d0d0428", "outcome": "given_up"}
        await session.execute(update(Reconnect).values(**run))
    for minutes in range(0, 120, 5):
        await watch(house.rt, now=utcnow() + timedelta(minutes=minutes))
    rows = await house.rows(Outbox, col(Outbox.dedupe_key).startswith("run:wake:"))
    assert len(rows) > 20
    assert [row.status for row in rows].count("pending") == 1
    assert incident.resolved_at is None


async def test_who_logs_in_before_its_end_hears_nothing(
    open_house: Opened, post: tuple[Post, str]
) -> None:
    mailbox, url = post
    house = await asking(open_house, url)
    [connection, *_] = await house.connections()
    await rest(house, "maintenance", connection.makini_key)
    await house.lose_login(connection)
    await work(house)
    found = house.fleet.world.find(connection.makini_key)
    assert found is not None
    house.fleet.world.restore_credentials(found)
    await house.sweep()
    await resume(house, "maintenance")
    await work(house)
    assert (await house.connection(connection.id)).health == "healthy"
    assert mailbox.mails == []


async def test_a_reminder_waits_too(open_house: Opened, post: tuple[Post, str]) -> None:
    house = await asking(open_house, post[1])
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    await work(house)
    await rest(house, "maintenance", connection.makini_key)
    async with house.store.write() as session:
        await session.execute(update(Silence).values(ends_at=utcnow() + timedelta(days=6)))

    async def reminded() -> int:
        for hours in range(24, 96):
            await watch(house.rt, now=utcnow() + timedelta(hours=hours))
        rows = await house.rows(Outbox, col(Outbox.channel) == "email")
        return sum(":remind:" in row.dedupe_key for row in rows)

    assert await reminded() == 0
    await resume(house, "maintenance")
    assert await reminded() > 0
