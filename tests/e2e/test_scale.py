"""Beyond one machine: what `deploy/compose.yaml` describes, and one of each dies under load.

PostgreSQL (Debian's), Redis, Prefect, two workers, two receivers behind nginx, two consumers, each
a machine of its own (`tests/e2e/machines.py`). `make soak` runs it.
"""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import httpx
import pytest
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.objects import FlowRun
from redis.asyncio import Redis
from sqlalchemy import func, select, text
from sqlmodel import col

import sandbox
from linekeeper.clock import utcnow
from linekeeper.store import Store
from linekeeper.store.tables import Change, Connection, Incident, WebhookEvent
from tests.e2e.conftest import until
from tests.e2e.site import Site, missing, site
from tests.leases import holder
from tests.newest_runs import newest_runs
from tests.reconcile.conftest import ENTITIES, index_of, parsed

pytestmark = [pytest.mark.soak, pytest.mark.e2e]

CONNECTIONS = 40
CHANGES_A_ROUND = 40
BURST = 2_000
MOST_ROUNDS = 2_000
SLOW_MS = 1_500
"""Makini's answers, while a run is to be caught in the middle of its work."""


class Load:
    """Records change at Makini, each announced by a webhook of its own, until told to stop."""

    def __init__(self, place: Site) -> None:
        self._place = place
        self.changes = 0

    async def burst(self, count: int) -> None:
        """`count` changes at once."""
        await self._place.control("records", change=count, per_webhook=1)
        self.changes += count

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        """Change upon change while the block runs."""

        async def rounds() -> None:
            for _ in range(MOST_ROUNDS):
                await self.burst(CHANGES_A_ROUND)
                await asyncio.sleep(1)

        task = asyncio.create_task(rounds())
        try:
            yield
        finally:
            assert not task.done(), task.exception()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_one_of_each_dies_under_load_and_nothing_is_lost_or_done_twice(
    capsys: pytest.CaptureFixture[str],
) -> None:
    if lacking := missing():
        pytest.skip(lacking)
    box = sandbox.Settings(
        port=0, connections=CONNECTIONS, records_per_connection=60, retry_scale=0.02
    )
    took: dict[str, float] = {}
    async with site(box) as place, place.store() as store:
        load = Load(place)
        await _completed(place, "health-sweep")
        await _completed(place, "reconcile")
        assert await _not_in_redis(place) == set()
        async with load.going_on():
            for one, other in (("1", "2"), ("2", "1")):
                receiver = await place.kill(f"receiver-{one}")
                took[receiver.name] = await _until_answered(place)
                await load.burst(BURST)  # so that it dies with its hands full
                await asyncio.sleep(0.5)
                consumer = await place.kill(f"consumer-{one}")
                took[consumer.name] = await _until_free(store)
                await place.start(receiver.name)
                await place.start(consumer.name)
                await place.control("webhooks", drop=0.3 if other == "1" else 0.0)
            incident, waiting = await _login_lost(place, store)
            reconcile = await _killed_at_work(place, store, "reconcile", "reconcile:all")
            took["worker (reconcile)"] = await _taken_over(place, "reconcile")
            await place.start(reconcile)
            sweep = await _killed_at_work(place, store, "health-sweep", "health-sweep")
            took["worker (sweep)"] = await _taken_over(place, "health-sweep")
            await place.start(sweep)
            await _login_found(place, store, incident, waiting)
        await place.control("webhooks", drop=0.0)
        await until(lambda: _quiet(place, store), seconds=600, what="every webhook to be applied")
        await _completed(place, "reconcile")

        truth = await place.truth()
        sent = [
            ended for ended in truth["webhooks"] if ended["keys"] and ended["fate"] != "unannounced"
        ]
        fates, statuses = Counter(one["fate"] for one in sent), await _statuses(store)
        # Nothing lost: everything announced came, and the index is what the sources have.
        assert set(fates) == {"delivered", "dropped"}
        assert set(statuses) <= {"processed", "stale", "deferred"}
        assert await index_of(store) == _readable(truth)
        await until(lambda: _forwarded(store, place), seconds=600, what="the product")
        # Nothing twice: one row for each change, and to the product one id for each.
        assert await _repeated_changes(store) == 0
        assert place.product.unverified == 0
        ids = Counter(identity for identity, _ in place.product.taken)
        bodies = {(identity, str(body)) for identity, body in place.product.taken}
        assert len(bodies) == len(ids)
        report = (
            f"on {place.net.kind}; {place.version}: {load.changes} changes, webhooks {dict(fates)},"
            f" events {dict(statuses)}, product took {len(ids)} ids and "
            f"{sum(ids.values()) - len(ids)} repeats under the same id; taken over in seconds: "
            + ", ".join(f"{name} {seconds:.1f}" for name, seconds in took.items())
            + f"; {await _sizes(place, store)}"
        )
        with capsys.disabled():
            sys.stdout.write(f"\n{report}\n")


async def _completed(place: Site, deployment: str) -> None:
    run = await place.ended(await place.trigger(deployment))
    assert run.state is not None
    assert run.state.is_completed(), (deployment, run.state.message)


async def _login_lost(place: Site, store: Store) -> tuple[str, UUID]:
    """A customer's login is lost; the incident, and the one run that waits for it."""
    async with store.read() as session:
        connection = await session.scalar(
            select(Connection).where(
                col(Connection.health) == "healthy", col(Connection.setup) == "live"
            )
        )
    assert connection is not None
    await place.control(f"connections/{connection.makini_key}/change-credentials")
    run = await place.ended(await place.trigger("health-sweep"))
    assert run.state is not None
    assert run.state.name == "Failed", run.state.message
    await until(lambda: _told(place, run.id), seconds=300, what="the automation 'run failed'")
    [waiting] = await until(lambda: _waiting(place), seconds=400, what="the run that waits")
    return str(waiting.parameters["incident"]), waiting.id


async def _login_found(place: Site, store: Store, incident: str, waiting: UUID) -> None:
    """The login is back; the run that waited through it all closes the incident."""
    async with store.read() as session:
        key = await session.scalar(
            select(Connection.makini_key).where(
                col(Connection.health) == "reauthorization_required"
            )
        )
    await place.control(f"connections/{key}/restore-credentials")
    await place.ended(await place.trigger("health-sweep"))
    run = await place.ended(waiting)
    assert run.state is not None
    assert run.state.name == "Reconnected", run.state.message
    async with store.read() as session:
        found = await session.get(Incident, incident)
    assert found is not None
    assert found.resolved_at is not None
    assert [one.id for one in await _reconnects(place)] == [waiting]


async def _killed_at_work(place: Site, store: Store, deployment: str, lease: str) -> str:
    """A run is in the middle of it when the machine of its worker dies; the machine's name."""
    await place.control("settings", latency_ms=SLOW_MS)
    begun = utcnow()
    run = await place.trigger(deployment)

    async def where() -> str | None:
        for name in ("worker-1", "worker-2"):
            if place.net.machines[name].works_on(run):
                return name
        return None

    name: str = await until(where, seconds=300, what=f"{deployment} to run")
    await until(lambda: _holds(store, lease), seconds=300, what=f"{deployment} to begin")
    await asyncio.sleep(2 * SLOW_MS / 1000)
    assert await _holds(store, lease), f"{deployment} was over before it was killed"
    await place.kill(name)
    await place.control("settings", latency_ms=0)
    if deployment == "health-sweep":
        async with store.read() as session:
            checked = await session.scalar(
                select(func.count()).where(col(Connection.last_checked_at) >= begun)
            )
        assert checked is not None
        assert checked < CONNECTIONS
    return name


async def _taken_over(place: Site, deployment: str) -> float:
    """Seconds until the other worker has done all of it."""
    begun = time.monotonic()
    await _completed(place, deployment)
    return time.monotonic() - begun


async def _holds(store: Store, lease: str) -> bool:
    return await holder(store, lease, now=utcnow()) is not None


async def _reconnects(place: Site) -> list[FlowRun]:
    async with place.prefect() as client:
        deployment = await client.read_deployment_by_name("reconnect/reconnect")
        return await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                deployment_id=FlowRunFilterDeploymentId(any_=[deployment.id])
            )
        )


async def _waiting(place: Site) -> list[FlowRun]:
    return [
        run for run in await _reconnects(place) if run.state is not None and run.state.is_paused()
    ]


async def _told(place: Site, run_id: UUID) -> bool:
    """Whether Prefect's events reached its automations: they go through Redis."""
    async with place.prefect() as client:
        answer = await client._client.post(
            "/events/filter",
            json={"filter": {"event": {"name": ["prefect.automation.triggered"]}}},
        )
    return str(run_id) in answer.text


async def _not_in_redis(place: Site) -> set[str]:
    """What Prefect should keep in Redis and doesn't; first a lease, for no flow takes one."""
    async with place.prefect() as client:
        limit = GlobalConcurrencyLimitCreate(name="probe", limit=1)
        await client.create_global_concurrency_limit(limit)
        await client.increment_concurrency_slots_with_lease(
            names=["probe"], slots=1, mode="concurrency", lease_duration=60
        )
    kept: set[str] = set()
    for database in (0, 1):
        async with Redis(host=place.at("redis"), db=database) as client:
            kept |= {key.decode() async for key in client.scan_iter(count=1_000)}
    wanted = {
        "their order": ":seen:",
        "leases": "prefect:concurrency:lease:",
        "services": "prefect-server",
    }
    lacking = {what for what, part in wanted.items() if not any(part in key for key in kept)}
    return lacking if "events" in kept else lacking | {"messages"}


async def _sizes(place: Site, store: Store) -> str:
    """What a row of each of the large tables takes, with its indexes; and Prefect's database."""
    said = []
    async with store.read() as session:
        for name in ("webhook_event", "record", "change", "outbox"):
            size = f"SELECT pg_total_relation_size('{name}') / greatest(count(*), 1) FROM {name}"
            said.append(f"{name} {await session.scalar(text(size))}")
        prefect = await session.scalar(text("SELECT pg_database_size('prefect')"))
    async with place.prefect() as client:
        runs = len(await newest_runs(client))
    return f"bytes a row: {', '.join(said)}; Prefect {prefect / 1e6:.1f} MB after {runs} runs"


async def _quiet(place: Site, store: Store) -> bool:
    told = await place.truth("?records=0&webhooks=0")
    return not told["webhooks_outstanding"] and not (await _statuses(store))["pending"]


async def _statuses(store: Store) -> Counter[str]:
    async with store.read() as session:
        rows = await session.execute(
            select(col(WebhookEvent.status), func.count()).group_by(col(WebhookEvent.status))
        )
        return Counter(dict(rows.all()))


def _readable(truth: dict[str, Any]) -> dict[str, Any]:
    """What the sources have of what can be read."""
    wanted = {
        connection: {
            entity: times for entity, times in found.items() if entity in ENTITIES and times
        }
        for connection, found in truth["records"].items()
        if truth["states"][connection] not in ("pending", "inactive")
    }
    return {key: found for key, found in parsed(wanted).items() if found}


async def _repeated_changes(store: Store) -> int:
    """Changes that were noted more than once."""
    one = (Change.connection_id, Change.entity, Change.key, Change.op, Change.updated_at)
    async with store.read() as session:
        rows = await session.execute(
            select(func.count()).select_from(Change).group_by(*one).having(func.count() > 1)
        )
        return len(rows.all())


async def _forwarded(store: Store, place: Site) -> bool:
    async with store.read() as session:
        events = set(await session.scalars(select(col(WebhookEvent.id))))
        recovered = await session.scalars(select(col(Change.id)).where(col(Change.recovered)))
        events |= set(recovered)
    return events <= {identity for identity, _ in place.product.taken}


async def _until_answered(place: Site) -> float:
    """Seconds until nginx has somebody who answers."""
    begun = time.monotonic()

    async def ready() -> bool:
        try:
            return (await place.http.get(f"{place.front}/readyz")).status_code == 200
        except httpx.HTTPError:
            return False

    await until(ready, seconds=200, what="a receiver")
    return time.monotonic() - begun


async def _until_free(store: Store) -> float:
    """Seconds until everything is settled that was pending now."""
    begun = time.monotonic()
    async with store.read() as session:
        held = set(
            await session.scalars(
                select(col(WebhookEvent.id)).where(col(WebhookEvent.status) == "pending")
            )
        )

    async def done() -> bool:
        async with store.read() as session:
            left = await session.scalar(
                select(func.count())
                .select_from(WebhookEvent)
                .where(col(WebhookEvent.id).in_(held), col(WebhookEvent.status) == "pending")
            )
        return not left

    await until(done, seconds=300, what="the other consumer to take over")
    return time.monotonic() - begun
