"""A part of Linekeeper that is missing is one message, soon; what follows from it is none."""

from datetime import timedelta

from sqlalchemy import update
from sqlmodel import col, select

from linekeeper.clock import utcnow
from linekeeper.incidents.findings import Finding, apply_findings
from linekeeper.notify.situations import read_state
from linekeeper.receiver.standby import Standby
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.tables import Incident, PartHeartbeat, RunAlert, WebhookEvent
from linekeeper.watch.alerts import NO_WORKER, Alert, record_alert, watch_runs
from linekeeper.watch.queries import beat, done, note_prefect
from linekeeper.watch.service import watch
from sandbox import Served
from tests.inbox.process.conftest import fleet, product, stage
from tests.inbox.process.stage import Stage
from tests.watch.test_standby import runtime, said, slack

__all__ = ["fleet", "product", "runtime", "slack", "stage"]  # fixtures


async def pass_by(store: Store, *, minutes: float, but: str = "receiver") -> None:
    """As if all that was seen of parts and runs had been so long ago; `but` those that live."""
    passed = timedelta(minutes=minutes)
    async with store.write() as session:
        for part in await session.scalars(select(PartHeartbeat)):
            part.since -= passed
            if part.kind != but:
                part.at -= passed
        await session.execute(update(RunAlert).values(at=await store.clock(session) - passed))


async def open_kinds(store: Store) -> set[str]:
    async with store.read() as session:
        kinds = select(col(Incident.kind)).where(col(Incident.resolved_at).is_(None))
        return set(await session.scalars(kinds))


async def notified(rt: Runtime) -> dict[str, str]:
    """The kinds of open incidents that people are notified of, each with its severity."""
    now = utcnow()
    async with rt.store.read() as session:
        state = await read_state(session, await rt.configuration(), now)
        kinds = dict((await session.execute(select(col(Incident.id), col(Incident.kind)))).all())
    return {
        kinds[each.id]: each.severity
        for each in state.situations
        if not any(span.starts_at <= now < span.ends_at for span in each.silences)
    }


async def test_where_no_consumer_lives_the_receiver_finds_that_webhooks_wait(
    stage: Stage,
) -> None:
    """And that no consumer lives is what people are notified of, once."""
    rt, standby = stage.rt, Standby(stage.rt)
    await stage.deliver({"id": "w", "event": "assets.updated", "body": ["1"]})
    async with rt.store.write() as session:
        longer = utcnow() - timedelta(minutes=5, seconds=10)
        await session.execute(update(WebhookEvent).values(received_at=longer))
    for kind in ("receiver", "consumer"):
        await beat(rt.store, f"{kind}:a", kind, "there")
    assert not await standby.look_if_nobody_consumes()
    assert await open_kinds(rt.store) == set()
    await pass_by(rt.store, minutes=5)
    assert await standby.look_if_nobody_consumes()
    assert await open_kinds(rt.store) == {"webhooks_behind", "part_silent"}
    assert await notified(rt) == {"part_silent": "critical"}


async def test_no_worker_is_one_message_however_it_shows(runtime: Runtime) -> None:
    """It is found by Prefect first, and as severe as what it leaves undone."""
    store = runtime.store
    await beat(store, "receiver:a", "receiver", "there")
    await beat(store, "consumer:a", "consumer", "there")
    await note_prefect(store, {"one": "1"}, paused=False)
    await done(store, "housekeeping")
    await record_alert(store, Alert("pool_not_ready", "linekeeper"))
    await pass_by(store, minutes=4, but="consumer")
    await beat(store, "receiver:a", "receiver", "there")
    await watch_runs(store)
    assert await notified(runtime) == {"pool_not_ready": "normal"}
    await pass_by(store, minutes=5000)
    for kind in ("receiver", "consumer"):
        await beat(store, f"{kind}:a", kind, "there")
    await note_prefect(store, {"one": "1"}, paused=False)
    async with store.write() as session:  # Prefect has answered all along
        prefect = await session.get_one(PartHeartbeat, "prefect")
        prefect.since -= timedelta(hours=1)
    await watch(runtime)
    await watch_runs(store)
    assert await open_kinds(store) == {"pool_not_ready", "pool_without_worker", "work_overdue"}
    assert await notified(runtime) == {"pool_not_ready": "critical"}


async def test_late_runs_say_that_their_work_is_not_done(runtime: Runtime) -> None:
    store = runtime.store
    late = Alert("run_late", "health-sweep", run_id="r")
    await record_alert(store, late)
    await pass_by(store, minutes=6)
    await watch_runs(store)
    found = Finding(
        kind="work_overdue", cause="parts:work:sweep", app="", title="No sweep", text="None.",
        scope="house",
    )  # fmt: skip
    other = Finding(
        kind="work_overdue", cause="parts:work:digest", app="", title="No digest", text="None.",
        scope="house",
    )  # fmt: skip
    async with store.write() as session:
        await apply_findings(store, session, "parts", [found], now=utcnow())
    assert await notified(runtime) == {"run_late": "critical"}
    async with store.write() as session:
        await apply_findings(store, session, "parts", [found, other], now=utcnow())
    assert await notified(runtime) == {"run_late": "critical", "work_overdue": "critical"}


async def test_what_prefect_says_as_the_machine_wakes_up_waits_until_it_is_seen_to_last(
    store: Store, settings: Settings
) -> None:
    async with Runtime.open(settings):
        await beat(store, "consumer:a", "consumer", "there")
        await record_alert(store, Alert("run_late", "health-sweep", run_id="r"))
        await pass_by(store, minutes=60)  # asleep, with one run reported just before
        await record_alert(store, Alert("run_late", "reconcile", run_id="s"))
        assert await open_kinds(store) == set()
        await beat(store, "consumer:a", "consumer", "there")
        await beat(store, "awake", "awake", "")
        await watch_runs(store)
        assert await open_kinds(store) == set()
        await pass_by(store, minutes=6, but="consumer")
        await watch_runs(store)
        assert await open_kinds(store) == {"run_late"}


async def test_late_runs_that_wait_for_a_worker_are_told_as_that(runtime: Runtime) -> None:
    store = runtime.store
    await record_alert(store, Alert("run_late", "health-sweep", run_id="r"))
    async with store.write() as session:
        await session.execute(update(RunAlert).values(state_message=NO_WORKER))
    await pass_by(store, minutes=6)
    await watch_runs(store)
    missing = Finding(
        kind="pool_without_worker", cause="parts:pool", app="", title="None", text="None.",
        scope="house", detail={"missing": "worker"},
    )  # fmt: skip
    async with store.write() as session:
        await apply_findings(store, session, "parts", [missing], now=utcnow())
    assert await notified(runtime) == {"run_late": "critical"}


async def test_a_part_that_is_missed_again_once_one_had_worked_is_said_at_once(
    runtime: Runtime, slack: Served
) -> None:
    """Only what began while none worked follows from that."""
    store, standby = runtime.store, Standby(runtime)
    await beat(store, "receiver:a", "receiver", "there")
    await pass_by(store, minutes=20)
    await beat(store, "receiver:a", "receiver", "there")
    await watch(runtime)
    assert await standby.deliver_if_nobody_does()
    assert "No consumer since" in said(slack)[0]
    await beat(store, "consumer:c", "consumer", "there")
    await watch(runtime)
    assert await open_kinds(store) == set()
    await pass_by(store, minutes=20)  # by the parts' clocks; the incident was resolved just now
    await watch(runtime)
    assert await open_kinds(store) == {"part_silent"}
    assert await notified(runtime) == {"part_silent": "critical"}
    assert await standby.deliver_if_nobody_does()
    assert any("No sign of life from the consumer on there since" in text for text in said(slack))
