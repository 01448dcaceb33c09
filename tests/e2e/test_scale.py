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
from uuid import UUID

import pytest
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.objects import FlowRun
from sqlalchemy import func, select
from sqlmodel import col

import sandbox
from linekeeper.clock import utcnow
from linekeeper.store import Store
from linekeeper.store.tables import Connection, Incident
from tests.e2e.conftest import until
from tests.e2e.seen_under_load import (
    is_forwarded,
    is_quiet,
    not_in_redis,
    readable,
    repeated_changes,
    sizes,
    statuses_of,
    until_answered,
    until_free,
)
from tests.e2e.site import Site, missing, site
from tests.leases import holder
from tests.reconcile.conftest import index_of

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
        assert await not_in_redis(place) == set()
        async with load.going_on():
            for one, other in (("1", "2"), ("2", "1")):
                receiver = await place.kill(f"receiver-{one}")
                took[receiver.name] = await until_answered(place)
                await load.burst(BURST)  # so that it dies with its hands full
                await asyncio.sleep(0.5)
                consumer = await place.kill(f"consumer-{one}")
                took[consumer.name] = await until_free(store)
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
        await until(lambda: is_quiet(place, store), seconds=600, what="every webhook to be applied")
        await _completed(place, "reconcile")

        truth = await place.truth()
        sent = [
            ended for ended in truth["webhooks"] if ended["keys"] and ended["fate"] != "unannounced"
        ]
        fates, statuses = Counter(one["fate"] for one in sent), await statuses_of(store)
        # Nothing lost: everything announced came, and the index is what the sources have.
        assert set(fates) == {"delivered", "dropped"}
        assert set(statuses) <= {"processed", "stale", "deferred"}
        assert await index_of(store) == readable(truth)
        await until(lambda: is_forwarded(store, place), seconds=600, what="the product")
        # Nothing twice: one row for each change, and to the product one id for each.
        assert await repeated_changes(store) == 0
        assert place.product.unverified == 0
        ids = Counter(identity for identity, _ in place.product.taken)
        bodies = {(identity, str(body)) for identity, body in place.product.taken}
        assert len(bodies) == len(ids)
        report = (
            f"on {place.net.kind}; {place.version}: {load.changes} changes, webhooks {dict(fates)},"
            f" events {dict(statuses)}, product took {len(ids)} ids and "
            f"{sum(ids.values()) - len(ids)} repeats under the same id; taken over in seconds: "
            + ", ".join(f"{name} {seconds:.1f}" for name, seconds in took.items())
            + f"; {await sizes(place, store)}"
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
    await until(lambda: _notified(place, run.id), seconds=300, what="the automation 'run failed'")
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


async def _notified(place: Site, run_id: UUID) -> bool:
    """Whether Prefect's events reached its automations: they go through Redis."""
    async with place.prefect() as client:
        answer = await client._client.post(
            "/events/filter",
            json={"filter": {"event": {"name": ["prefect.automation.triggered"]}}},
        )
    return str(run_id) in answer.text
