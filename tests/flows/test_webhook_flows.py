"""process-webhooks and replay-webhooks, run as Prefect runs them."""

from datetime import timedelta

import pytest
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, State
from sqlmodel import select

from flows.process_webhooks import process_webhooks
from flows.replay_webhooks import replay_webhooks
from linekeeper.clock import utcnow
from linekeeper.config import AppConfig
from linekeeper.inbox.identify import identify, make_delivery
from linekeeper.inbox.intake import Intake
from linekeeper.inbox.meaning import EventNames
from linekeeper.inbox.tally import Tally
from linekeeper.orchestrator import Blocks
from linekeeper.store import Store, new_id
from linekeeper.store.configuration import save_blocks
from linekeeper.store.leases import holding
from linekeeper.store.tables import Connection, Customer, Outbox, WebhookEvent
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import Running, on, on_both

pytestmark = [on_both, pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")]


async def connect(store: Store, key: str) -> None:
    customer = Customer(id=new_id(), name="Acme", slug="acme")
    async with store.write() as session:
        session.add(customer)
        await session.flush()
        session.add(
            Connection(
                id=new_id(),
                app="default",
                makini_key=key,
                name="Acme · SAP ECC",
                slug=f"acme-{key}",
                provider="SAP ECC",
                customer_id=customer.id,
            )
        )


async def deliver(store: Store, *bodies: bytes, to: str) -> list[str]:
    names = EventNames(("eam/assets",), {})
    ids = []
    async with Intake.open(store) as intake:
        for body in bodies:
            now = utcnow()
            identity = identify("default", names, {}, to, body, now=now)
            delivery = make_delivery(new_id(), "default", identity, body, received_at=now)
            ids.append((await intake.store(delivery)).id)
    return ids


async def ended(state: State[object]) -> tuple[str, str]:
    return state.name or "", state.message or ""


async def task_runs(running: Running, run: FlowRun) -> list[tuple[str, str]]:
    """Name and state of the task runs of a flow run."""
    runs = await running.client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
    )
    return [(one.name, one.state.name if one.state else "") for one in runs]


async def events(store: Store) -> list[WebhookEvent]:
    async with store.read() as session:
        return list(await session.scalars(select(WebhookEvent).order_by(WebhookEvent.id)))


async def test_the_net_applies_what_is_left_and_is_red_once_for_each_dead_event(
    running: Running, store: Store, clean_prefect: PrefectServer
) -> None:
    app = AppConfig(entities=("eam/assets",))
    await save_blocks(store, Blocks(apps=[app]), now=utcnow())
    await connect(store, "c1")
    await deliver(
        store,
        b'{"id":"1","type":"connection.status_changed","details":{"to":"online"}}',
        b'{"id":"2","event":"moon | rising"}',
        b"\xff",
        to="c1",
    )
    await deliver(store, b'{"id":"3","type":"sync.completed"}', to="nobody")
    tally = Tally()
    tally.count("default", "bad_signature")
    tally.sample(
        "default", "bad_signature", path=b"/webhooks/default", headers=[], size=7, at=utcnow()
    )
    await tally.flush(store, now=utcnow())

    with on(clean_prefect):
        state = await process_webhooks(return_state=True)
    name, message = await ended(state)
    assert name == "Failed"
    assert message.startswith("2 newly dead: ")
    run = await running.last()
    assert run.name == "webhooks · 2 newly dead"
    failed = [one for one, state_name in await task_runs(running, run) if state_name == "Failed"]
    assert sorted(failed) == ["Acme · SAP ECC · (no name)", "Acme · SAP ECC · moon | rising"]
    shown = await running.artifact("webhooks")
    assert "1 processed in a day, 2 dead, 1 unrouted" in shown
    assert "moon \\| rising" in shown
    assert "bad signature | 1" in shown
    assert "nobody" in shown
    assert "/webhooks/default" in shown
    assert shown.startswith("1 processed in a day")

    with on(clean_prefect):
        state = await process_webhooks(return_state=True)
    assert (await ended(state))[0] == "Completed", "what is known is not red again"
    assert (await running.last()).name == "webhooks · 2 dead, 1 unrouted"


async def test_while_another_run_is_at_it_one_that_was_scheduled_is_skipped(
    running: Running, store: Store, clean_prefect: PrefectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.run.by_hand", lambda: False)
    async with holding(store, "process-webhooks", "somebody", wait=False) as held:
        assert held is not None
        with on(clean_prefect):
            state = await process_webhooks(return_state=True)
    assert (await ended(state))[0] == "Skipped"
    assert (await running.last()).name == "webhooks · skipped"


async def test_a_replay_is_planned_first_and_then_done_and_the_net_applies_it(
    running: Running, store: Store, clean_prefect: PrefectServer
) -> None:
    await connect(store, "c1")
    await save_blocks(store, Blocks(apps=[AppConfig(entities=("eam/assets",))]), now=utcnow())
    body = b'{"id":"1","event":"lamp.lit","details":{"to":"online"}}'
    [original] = await deliver(store, body, to="c1")
    with on(clean_prefect):
        await process_webhooks(return_state=True)
        # The operator teaches what the name means, looks at the plan, and runs it.
        app = AppConfig(entities=("eam/assets",), event_kinds={"lamp.*": "sync.completed"})
        await save_blocks(store, Blocks(apps=[app]), now=utcnow())
        state = await replay_webhooks(return_state=True)
        assert await ended(state) == ("Completed", "Would replay 1 of 1 dead")
        shown = await running.artifact("replay-webhooks")
        assert original in shown
        assert "no kind is known for lamp.lit" in shown
        assert len(await events(store)) == 1
        state = await replay_webhooks(
            connection="Acme · SAP ECC",
            since=utcnow() - timedelta(hours=1),
            dry_run=False,
            return_state=True,
        )
        assert await ended(state) == ("Completed", "Replayed 1 dead")
        state = await process_webhooks(return_state=True)
    assert (await ended(state))[0] == "Completed"
    first, again = await events(store)
    assert (first.status, again.status, again.replay_of) == ("dead", "processed", first.id)


async def test_a_replay_of_an_unknown_connection_says_which_are_near(
    running: Running, store: Store, clean_prefect: PrefectServer
) -> None:
    await connect(store, "c1")
    with on(clean_prefect):
        state = await replay_webhooks(connection="Acne", return_state=True)
    name, message = await ended(state)
    assert name == "Refused"
    assert "Acme" in message


async def test_a_replay_since_a_time_without_a_zone_takes_it_as_utc(
    running: Running, store: Store, clean_prefect: PrefectServer
) -> None:
    await connect(store, "c1")
    await save_blocks(store, Blocks(apps=[AppConfig()]), now=utcnow())
    await deliver(store, b'{"id":"1","event":"lamp.lit"}', to="c1")
    with on(clean_prefect):
        await process_webhooks(return_state=True)
        for hours, found in ((-1, 1), (1, 0)):
            since = (utcnow() + timedelta(hours=hours)).replace(tzinfo=None)
            state = await replay_webhooks(since=since, return_state=True)
            assert await ended(state) == ("Completed", f"Would replay {found} of {found} dead")


async def test_what_the_product_did_not_take_is_handed_on_again_after_a_plan(
    running: Running, store: Store, clean_prefect: PrefectServer
) -> None:
    await save_blocks(store, Blocks(apps=[AppConfig()]), now=utcnow())
    async with store.write() as session:
        for number, channel in enumerate(("forward", "forward", "slack")):
            session.add(
                Outbox(
                    channel=channel,
                    dedupe_key=f"{channel}:{number}",
                    ordering_key=f"{channel}:default/{number}",
                    payload={"event": f"event-{number}"},
                    status="dead",
                    error="given up after 3 days: http://product answered 503",
                    created_at=utcnow(),
                    next_attempt_at=utcnow(),
                    settled_at=utcnow() - timedelta(hours=1),
                )
            )
    with on(clean_prefect):
        planned = await replay_webhooks(status="forward_dead", return_state=True)
        assert await ended(planned) == ("Completed", "Would hand on 2 of 2 given up")
        assert "event-0" in await running.artifact("replay-webhooks")
        done = await replay_webhooks(status="forward_dead", dry_run=False, return_state=True)
    assert await ended(done) == ("Completed", "Handed on 2 that were given up")
    async with store.read() as session:
        rows = {row.dedupe_key: row for row in await session.scalars(select(Outbox))}
    assert [rows[key].status for key in sorted(rows)] == ["pending", "pending", "dead"]
    assert rows["forward:0"].attempts == 0
