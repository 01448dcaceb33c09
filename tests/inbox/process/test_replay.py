"""Doing events again, looking again for an owner, giving up, and forgetting in time."""

from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy import insert, select, update
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.consumer.events import LONGEST_WAIT, MOST_ATTEMPTS, MOST_CALLS, next_attempt
from linekeeper.inbox.replay import Selection, plan_replay, replay
from linekeeper.inbox.retention import prune_inbox
from linekeeper.inbox.unrouted import route_again
from linekeeper.makini import ErrorKind, MakiniError
from linekeeper.store import new_id
from linekeeper.store.tables import Connection, WebhookEvent
from tests.health.test_sweep import sweep
from tests.inbox.process.stage import Stage, about


async def run(stage: Stage, selection: Selection) -> int:
    apps = (await stage.rt.configuration()).apps
    return sum([count async for count in replay(stage.rt.store, apps, selection, now=utcnow())])


async def test_a_replay_keeps_its_link_and_takes_the_place_of_the_original(stage: Stage) -> None:
    [connection, two, *_] = stage.connections
    bodies = [({"id": f"r{n}", "event": "moon.rising"}, connection) for n in range(3)]
    originals = await stage.deliver_all([*bodies, ({"id": "x", "event": "moon.rising"}, two)])
    await stage.process()
    selection = Selection("dead", connection_id=connection.id, limit=2)
    planned = await plan_replay(stage.rt.store, selection)
    assert (planned.events, planned.replayed, planned.by_kind) == (3, 2, {"unknown": 3})
    assert [line.id for line in planned.lines] == [receipt.id for receipt in originals[:2]]
    assert len(await stage.events()) == 4, "a plan writes nothing"

    assert await run(stage, selection) == 2
    assert await run(stage, Selection("dead", connection_id=connection.id)) == 1
    assert await run(stage, Selection("dead", connection_id=connection.id)) == 0, "each once"
    again = [event for event in await stage.events() if event.source == "replay"]
    assert [event.replay_of for event in again] == [receipt.id for receipt in originals[:3]]
    await stage.process()
    assert {(await stage.event(event.id)).status for event in again} == {"dead"}
    # A replay that died too may be replayed, and still leads to the first.
    assert await run(stage, Selection("dead", connection_id=connection.id)) == 3
    newest = [event for event in await stage.events() if event.source == "replay"][3:]
    assert {event.replay_of for event in newest} == {receipt.id for receipt in originals[:3]}


async def test_a_replay_is_handed_on_under_the_id_of_the_first(stage: Stage) -> None:
    [connection, *_] = stage.connections
    receipt = await stage.deliver(
        {"id": "a", "event": "assets.updated", "body": ["1"]}, to=connection
    )
    await stage.process()
    await stage.forward()
    await run(stage, Selection("processed"))
    await stage.process()
    await stage.forward()
    assert [identity for identity, _ in stage.product.taken] == [receipt.id] * 2


async def test_an_old_event_about_a_connection_ends_stale_when_it_is_done_again(
    stage: Stage,
) -> None:
    [connection, *_] = stage.connections
    await stage.deliver(about(connection, "connection.auth_required", utcnow()))
    await stage.process()
    await stage.deliver(about(connection, "connection.status_changed", utcnow(), to="online"))
    await stage.process()
    await sweep(stage.rt)
    assert (await stage.connection(connection)).health == "healthy"
    assert await run(stage, Selection("processed", limit=1)) == 1
    await stage.process()
    assert (await stage.connection(connection)).health == "healthy"
    [again] = [event for event in await stage.events() if event.source == "replay"]
    assert again.status == "stale"


async def test_an_unrouted_event_finds_its_connection_once_it_is_listed(stage: Stage) -> None:
    receipts = await stage.deliver_all(
        [({"id": name, "type": "sync.completed", "connection_id": name}, None) for name in "ab"]
    )
    await stage.process()
    assert await route_again(stage.rt.store, now=utcnow()) == 0
    async with stage.rt.store.write() as session:
        session.add(
            Connection(
                id=new_id(), app="default", makini_key="a", name="A", slug="a", provider="UpKeep"
            )
        )
    assert await route_again(stage.rt.store, now=utcnow()) == 1
    await stage.process()
    assert [(await stage.event(receipt.id)).status for receipt in receipts[:1]] == ["processed"]
    assert len([event for event in await stage.events() if event.status == "unrouted"]) <= 1


async def test_a_replay_that_is_tried_again_goes_no_further_than_its_limit(stage: Stage) -> None:
    """Its database went away between two transactions; what it replayed had died again by then."""
    await stage.deliver_all([({"id": f"r{n}", "event": "moon.rising"}, None) for n in range(720)])
    await stage.process()
    apps, now = (await stage.rt.configuration()).apps, utcnow()
    selection = Selection("dead", limit=600)
    first = replay(stage.rt.store, apps, selection, now=now)
    assert await anext(first) == 500
    await first.aclose()
    await stage.process()
    again = [count async for count in replay(stage.rt.store, apps, selection, now=now)]
    assert sum(again) == 600, "with what was done before"
    assert sum(event.source == "replay" for event in await stage.events()) == 600


async def test_an_unrouted_event_is_looked_at_behind_thousands_that_nobody_knows(
    stage: Stage,
) -> None:
    """Only the 5,000 oldest of a day were looked at: webhooks of a whole other account hid it."""
    receipt = await stage.deliver({"id": "n", "type": "sync.completed", "connection_id": "new"})
    await stage.process()
    row = (await stage.event(receipt.id)).model_dump()
    before = utcnow() - timedelta(hours=1)
    async with stage.rt.store.write() as session:
        await session.execute(
            insert(WebhookEvent),
            [
                row | {"id": new_id(), "delivery_key": f"x{number}", "connection_ref": "nobody",
                       "ordering_key": f"x{number}", "processed_at": before}
                for number in range(5_000)
            ],
        )  # fmt: skip
        session.add(
            Connection(
                id=new_id(), app="default", makini_key="new", name="N", slug="n", provider="UpKeep"
            )
        )
    assert await route_again(stage.rt.store, now=utcnow()) == 1
    assert (await stage.event(receipt.id)).status == "pending"


async def test_an_unrouted_event_whose_replay_found_its_connection_is_not_applied_again(
    stage: Stage,
) -> None:
    receipt = await stage.deliver({"id": "n", "type": "sync.completed", "connection_id": "new"})
    await stage.process()
    async with stage.rt.store.write() as session:
        session.add(
            Connection(
                id=new_id(), app="default", makini_key="new", name="N", slug="n", provider="UpKeep"
            )
        )
    assert await run(stage, Selection("unrouted")) == 1
    await stage.process()
    assert await route_again(stage.rt.store, now=utcnow()) == 0
    assert (await stage.event(receipt.id)).status == "unrouted"


async def test_an_unrouted_event_finds_the_connection_of_its_url_once_it_is_listed(
    stage: Stage,
) -> None:
    body = {"id": "u", "type": "sync.completed", "connection_id": "nobody"}
    receipt = await stage.deliver(body, to="new")
    await stage.process()
    assert (await stage.event(receipt.id)).status == "unrouted"
    made = Connection(
        id=new_id(), app="default", makini_key="new", name="N", slug="n", provider="UpKeep"
    )
    async with stage.rt.store.write() as session:
        session.add(made)
        identity = made.id
    assert await route_again(stage.rt.store, now=utcnow()) == 1
    await stage.process()
    event = await stage.event(receipt.id)
    assert (event.status, event.connection_id) == ("processed", identity)


async def test_payloads_go_first_ids_stay_a_month_and_what_waits_stays(stage: Stage) -> None:
    [connection, *_] = stage.connections
    now = utcnow()
    for number in range(4):
        await stage.deliver({"id": f"p{number}", "event": "moon.rising"}, to=connection)
    await stage.process()
    waiting = await stage.deliver(
        {"id": "w", "event": "assets.updated", "body": ["1"]}, to=connection
    )
    later = now + timedelta(days=20)
    kept = {"payloads_before": later - timedelta(days=14), "events_before": later, "now": later}
    dry = await prune_inbox(stage.rt.store, **kept, dry_run=True)
    assert (dry.payloads, dry.events) == (4, 0)
    assert all(event.body for event in await stage.events())
    done = await prune_inbox(stage.rt.store, **kept)
    assert (done.payloads, done.events) == (4, 0)
    assert [bool(event.body) for event in await stage.events()] == [False] * 4 + [True]
    # The id is still known: a repeat is one. What has no payload can't be done again.
    assert not (await stage.deliver({"id": "p0", "event": "moon.rising"}, to=connection)).is_new
    planned = await plan_replay(stage.rt.store, Selection("dead"))
    assert (planned.events, planned.without_body) == (0, 4)
    later = now + timedelta(days=31)
    kept = {"payloads_before": later, "events_before": later, "now": later}
    assert (await prune_inbox(stage.rt.store, **kept)).events == 4
    [left] = await stage.events()
    assert (left.id, left.status) == (waiting.id, "pending")


async def test_an_event_that_fails_for_an_unknown_reason_is_retried_then_dead(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    [connection, two, *_] = stage.connections
    poison = await stage.deliver(about(connection, "sync.completed", utcnow(), result="success"))
    blocked = await stage.deliver(about(connection, "sync.completed", utcnow(), result="success"))
    free = await stage.deliver(about(two, "sync.completed", utcnow(), result="success"))
    from linekeeper.consumer import connection_events

    real = connection_events.statement
    first = f'"{(await stage.event(poison.id)).delivery_key}"'

    def broken(kind: str, event: str | None, payload: object) -> object:
        if isinstance(payload, dict) and f'"{payload["id"]}"' == first:
            raise ArithmeticError("a defect of ours")
        return real(kind, event, payload)

    monkeypatch.setattr("linekeeper.consumer.connection_events.statement", broken)
    for attempt in range(1, MOST_ATTEMPTS + 1):
        await stage.process()
        assert (await stage.event(poison.id)).attempts == attempt
        assert (await stage.event(free.id)).status == "processed"
        if attempt < MOST_ATTEMPTS:
            assert (await stage.event(blocked.id)).status == "pending"
        async with stage.rt.store.write() as session:
            await session.execute(
                update(WebhookEvent)
                .where(col(WebhookEvent.status) == "pending")
                .values(next_attempt_at=utcnow())
            )
    await stage.process()
    dead = await stage.event(poison.id)
    assert (dead.status, dead.error) == ("dead", "ArithmeticError: a defect of ours")
    assert (await stage.event(blocked.id)).status == "processed"
    async with stage.rt.store.read() as session:
        claimed = await session.scalars(
            select(WebhookEvent).where(col(WebhookEvent.claimed_by).is_not(None))
        )
        assert list(claimed) == []


def test_a_call_limit_is_no_failure_and_what_never_mends_is_given_up_at_once() -> None:
    now = utcnow()
    limited = MakiniError(ErrorKind.rate_limited, "slow down", app="default", retry_after=90)
    away = MakiniError(ErrorKind.unavailable, "away", app="default")
    wrong = MakiniError(ErrorKind.rejected, "no", app="default")
    decide = partial(next_attempt, received_at=now, now=now)
    assert decide(500, limited) == now + timedelta(seconds=LONGEST_WAIT)
    assert decide(1, limited) == now + timedelta(seconds=90)
    assert decide(MOST_CALLS - 1, away) is not None
    assert decide(MOST_CALLS, away) is None
    assert decide(1, wrong) is None
    assert decide(1, RuntimeError()) == now + timedelta(seconds=2)
    assert decide(MOST_ATTEMPTS, RuntimeError()) is None
