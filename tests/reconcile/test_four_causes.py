"""In time, late by the sender, caught up after our own outage, lost: four numbers, told apart."""

from datetime import datetime, timedelta

import orjson
import pytest
from sqlalchemy import text, update
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import col, select

from linekeeper.clock import utcnow
from linekeeper.inbox.identify import identify, make_delivery
from linekeeper.inbox.intake import Intake
from linekeeper.inbox.meaning import EventNames
from linekeeper.notify.view import FROM_A_PAGE, Links
from linekeeper.reconcile.causes import Window, downtimes, is_in
from linekeeper.reconcile.outage import note_outages
from linekeeper.runtime import Runtime
from linekeeper.store import new_id
from linekeeper.store.tables import (
    Change,
    Connection,
    Outage,
    ReceiverHeartbeat,
    Transition,
    WebhookEvent,
    WebhookTrust,
)
from linekeeper.store.types import id_floor
from linekeeper.views.trust_page import trust_markdown
from linekeeper.views.trust_queries import trust_report
from tests.reconcile.conftest import Peer, deliver, drift, process, run
from tests.reconcile.unannounced import HOURS, change, measured_of, read_last


async def receivers_ran(rt: Runtime, *spans: tuple[datetime, datetime]) -> None:
    """Receivers could store during `spans`, and only then."""
    async with rt.store.write() as session:
        for since, at in spans:
            session.add(ReceiverHeartbeat(receiver="r", since=since, at=at))
        await session.flush()


async def test_retries_after_our_outage_are_no_fault_of_the_sender_and_hide_no_real_misses(
    rt: Runtime, peer: Peer, one: Connection
) -> None:
    """B3: in time, late, caught up after our outage and lost are four figures."""
    now = utcnow()
    await run(rt)
    change(peer, one, range(3))
    await run(rt)  # three real misses
    seen = change(peer, one, range(3, 7))
    await deliver(rt, one.makini_key, seen)
    await process(rt)
    late = change(peer, one, range(7, 9))
    await run(rt)
    await deliver(rt, one.makini_key, late)
    await process(rt)
    await run(rt)
    before, _ = await measured_of(rt, one)
    assert (before.webhooks_seen, before.late, before.caught_up, before.lost) == (4, 2, 0, 3)
    # We are away for eight hours; what changes then is repeated by the sender when we are back.
    gone, back = now - 9 * HOURS, now - HOURS
    await receivers_ran(rt, (gone - 24 * HOURS, gone), (back, utcnow()))
    await read_last(rt, gone)
    in_outage = change(peer, one, range(9, 17), at=gone + 2 * HOURS)
    await run(rt)
    await deliver(rt, one.makini_key, in_outage)
    await process(rt)
    await run(rt)
    measured, state = await measured_of(rt, one)
    assert (measured.webhooks_seen, measured.late, measured.lost) == (4, 2, 3)
    assert measured.caught_up == 8
    assert state != "bad"
    assert measured.mean_delay is not None
    assert measured.mean_delay < 900
    rows = await drift(rt)
    assert sum(row.missed for row in rows if row.cause == "outage") == 8
    assert sum(row.late for row in rows if row.cause == "outage") == 8
    page = trust_markdown(await trust_report(rt.store, now=utcnow()), Links(FROM_A_PAGE))
    assert "| Connection | Webhooks | Miss rate | Lost | In time | Late | Backfilled |" in page
    async with rt.store.read() as session:
        trust = await session.get_one(WebhookTrust, one.id)
    assert (trust.missed, trust.late, trust.webhooks_seen, trust.caught_up) == (3, 2, 4, 8)


async def test_a_repeated_delivery_that_comes_before_we_read_is_caught_up_and_not_in_time(
    rt: Runtime, peer: Peer, one: Connection
) -> None:
    await run(rt)
    now = utcnow()
    gone, back = now - 5 * HOURS, now - HOURS
    await receivers_ran(rt, (gone - 24 * HOURS, gone), (back, utcnow()))
    await read_last(rt, gone)
    keys = change(peer, one, range(3), at=gone + HOURS)
    await deliver(rt, one.makini_key, keys)
    await process(rt)
    await run(rt)
    measured, _ = await measured_of(rt, one)
    assert (measured.webhooks_seen, measured.caught_up, measured.lost) == (0, 3, 0)


@pytest.mark.parametrize("state", ["reauthorization_required", "unreachable"])
async def test_what_changes_while_makini_can_not_get_at_the_system_is_held_against_nobody(
    rt: Runtime, peer: Peer, one: Connection, state: str
) -> None:
    """A login is lost, or the system is away: nobody could have announced what changed then."""
    now = utcnow()
    await run(rt)
    change(peer, one, range(3))
    await run(rt)  # three real misses, before
    gone, back = now - 9 * HOURS, now - HOURS
    async with rt.store.write() as session:
        for at, before, after in ((gone, "healthy", state), (back, state, "healthy")):
            session.add(
                Transition(
                    connection_id=one.id, at=at, axis="health", before=before, after=after,
                    source="probe",
                )
            )  # fmt: skip
    await read_last(rt, gone - HOURS)
    change(peer, one, range(9, 17), at=gone + 2 * HOURS)
    change(peer, one, range(17, 19), at=gone - HOURS / 2)  # and two while it was up
    await run(rt)
    measured, _ = await measured_of(rt, one)
    assert (measured.lost, measured.caught_up) == (5, 0)
    rows = await drift(rt)
    assert sum(row.missed for row in rows if row.cause == "down") == 8


async def test_what_was_counted_as_missed_before_the_outage_was_known_is_put_right(
    rt: Runtime, peer: Peer, one: Connection
) -> None:
    await run(rt)
    lost = change(peer, one, range(2))
    await run(rt)
    ours = change(peer, one, range(2, 5))
    await run(rt)
    assert len(lost) + len(ours) == sum(row.missed for row in await drift(rt))
    now = utcnow()
    async with rt.store.write() as session:
        # The three were found while no receiver ran; the two before it, an hour earlier.
        for key in [*lost, *ours]:
            at = now - (2 * HOURS if key in ours else 4 * HOURS)
            await session.execute(
                update(Change)
                .where(col(Change.connection_id) == one.id, col(Change.key) == key)
                .values(at=at, updated_at=at)
            )
    await receivers_ran(rt, (now - 9 * HOURS, now - 3 * HOURS), (now - HOURS, now))
    await note_outages(rt.store, now=now)
    measured, _ = await measured_of(rt, one)
    assert (measured.lost, measured.caught_up) == (2, 3)


async def canary_came(
    rt: Runtime, at: datetime, *, kind: str = "canary", named: str = "default"
) -> None:
    """A delivery was stored at that time."""
    app = await rt.app("default")
    raw = orjson.dumps({"event": "linekeeper.canary", "id": new_id()})
    identity = identify(named, EventNames(app.entities, app.event_kinds), {}, None, raw, now=at)
    async with Intake.open(rt.store) as intake:
        stored = make_delivery(new_id(), named, identity, raw, received_at=at)
        await intake.store(stored)
    async with rt.store.write() as session:
        await session.execute(
            update(WebhookEvent)
            .where(col(WebhookEvent.received_at) == at)
            .values(id=id_floor(at), kind=kind)
        )


@pytest.mark.parametrize("webhook_came", [False, True])
async def test_a_receiver_behind_a_dead_proxy_is_an_outage_that_the_canary_tells_of(
    rt: Runtime, peer: Peer, one: Connection, webhook_came: bool
) -> None:
    await run(rt)
    now = utcnow()
    # Every five minutes, but for four and a half hours:
    for minute in (300, 295, 290, 285, 280, 10, 5, 0):
        await canary_came(rt, now - timedelta(minutes=minute))
    if webhook_came:  # the way in is open; it is the canary's own machine that is off
        for minute in range(276, 10, -4):
            await canary_came(rt, now - timedelta(minutes=minute, seconds=7), kind="record.updated")
    await receivers_ran(rt, (now - 24 * HOURS, now))
    await read_last(rt, now - timedelta(minutes=281))
    change(peer, one, range(4), at=now - 2 * HOURS)
    await run(rt)
    async with rt.store.read() as session:
        outages = list(await session.scalars(select(Outage)))
    measured, _ = await measured_of(rt, one)
    if webhook_came:
        assert outages == []
        assert (measured.lost, measured.caught_up) == (4, 0)
        return
    assert [outage.cause for outage in outages] == ["unreachable"]
    assert outages[0].since == now - timedelta(minutes=280)
    assert (measured.lost, measured.caught_up) == (0, 4)
    page = trust_markdown(await trust_report(rt.store, now=utcnow()), Links(FROM_A_PAGE))
    assert "no canary and no webhook came through from outside" in page


@pytest.mark.parametrize("seconds", [0.001, 10, 70])
@pytest.mark.parametrize("other", ["default", "plant"])
async def test_canaries_that_come_together_do_not_make_an_outage_of_the_time_between(
    rt: Runtime, peer: Peer, one: Connection, seconds: float, other: str
) -> None:
    """Every five minutes: of each app at once, or from inside and from another machine."""
    await run(rt)
    now = utcnow()
    for minute in range(60, -1, -5):
        at = now - timedelta(minutes=minute)
        await canary_came(rt, at - timedelta(seconds=seconds))
        await canary_came(rt, at, named=other)
    await receivers_ran(rt, (now - 24 * HOURS, now))
    await run(rt)
    async with rt.store.read() as session:
        assert list(await session.scalars(select(Outage))) == []


async def test_canaries_that_somebody_sends_by_hand_make_no_outage_of_the_minutes_after_them(
    rt: Runtime, peer: Peer, one: Connection
) -> None:
    await run(rt)
    now = utcnow()
    for seconds in (400, 380, 360, 340, 320, 0):
        await canary_came(rt, now - timedelta(seconds=seconds))
    await receivers_ran(rt, (now - 24 * HOURS, now))
    await run(rt)
    async with rt.store.read() as session:
        assert list(await session.scalars(select(Outage))) == []


def test_what_was_down_when_its_history_begins_was_down_before() -> None:
    back = utcnow()
    down = downtimes([(back, "unreachable", "healthy")], ("unreachable",))
    assert is_in(down, Window(back - HOURS, back - HOURS / 2))
    assert not is_in(down, Window(back + HOURS, back + HOURS))


@pytest.mark.soak
async def test_thousands_of_missed_changes_of_two_causes_are_counted(
    rt: Runtime, peer: Peer, one: Connection
) -> None:
    """On SQLite each run failed, for good, on what it was to count."""
    now = utcnow()
    await run(rt)
    gone, back = now - 9 * HOURS, now - HOURS
    await receivers_ran(rt, (gone - 24 * HOURS, gone), (back, utcnow()))
    await read_last(rt, gone)
    change(peer, one, range(2), at=gone + 2 * HOURS)
    await peer.set("records", connection=one.makini_key, entity="eam/assets", make=3_000)
    done = await run(rt)
    assert [str(failure) for failure in done.failures] == []
    assert {row.cause: row.missed for row in await drift(rt)} == {None: 3_000, "outage": 2}


async def test_a_process_that_dies_as_it_learns_of_an_outage_leaves_the_counting_to_the_next(
    rt: Runtime, peer: Peer, one: Connection
) -> None:
    """The outage was known from then on, and what had been missed in it stayed the sender's."""
    now = utcnow()
    await run(rt)
    gone, back = now - 9 * HOURS, now - timedelta(minutes=1)
    await read_last(rt, gone)
    change(peer, one, range(4), at=gone + 2 * HOURS)
    await run(rt)
    assert {row.cause: row.missed for row in await drift(rt)} == {None: 4}
    await receivers_ran(rt, (gone - 24 * HOURS, gone), (back, utcnow()))

    async def database(does: str) -> None:
        async with rt.store.write() as session:
            await session.execute(text(does))

    now = utcnow()
    await database("ALTER TABLE drift RENAME TO drift_away")
    with pytest.raises(SQLAlchemyError):
        await note_outages(rt.store, now=now)
    await database("ALTER TABLE drift_away RENAME TO drift")
    await note_outages(rt.store, now=now)
    assert {row.cause: row.missed for row in await drift(rt) if row.missed} == {"outage": 4}
