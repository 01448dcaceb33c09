"""What is seen of a site under load: whether it is quiet, what was done twice, who answers."""

import time
from collections import Counter
from typing import Any

import httpx
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from redis.asyncio import Redis
from sqlalchemy import func, select, text
from sqlmodel import col

from linekeeper.store import Store
from linekeeper.store.tables import Change, WebhookEvent
from tests.e2e.conftest import until
from tests.e2e.site import Site
from tests.newest_runs import newest_runs
from tests.reconcile.conftest import ENTITIES, parsed


async def not_in_redis(place: Site) -> set[str]:
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


async def sizes(place: Site, store: Store) -> str:
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


async def is_quiet(place: Site, store: Store) -> bool:
    truth = await place.truth("?records=0&webhooks=0")
    return not truth["webhooks_outstanding"] and not (await statuses_of(store))["pending"]


async def statuses_of(store: Store) -> Counter[str]:
    async with store.read() as session:
        rows = await session.execute(
            select(col(WebhookEvent.status), func.count()).group_by(col(WebhookEvent.status))
        )
        return Counter(dict(rows.all()))


def readable(truth: dict[str, Any]) -> dict[str, Any]:
    """What the sources have of what can be read."""
    wanted = {
        connection: {
            entity: times for entity, times in found.items() if entity in ENTITIES and times
        }
        for connection, found in truth["records"].items()
        if truth["states"][connection] not in ("pending", "inactive")
    }
    return {key: found for key, found in parsed(wanted).items() if found}


async def repeated_changes(store: Store) -> int:
    """Changes that were noted more than once."""
    one = (Change.connection_id, Change.entity, Change.key, Change.op, Change.updated_at)
    async with store.read() as session:
        rows = await session.execute(
            select(func.count()).select_from(Change).group_by(*one).having(func.count() > 1)
        )
        return len(rows.all())


async def is_forwarded(store: Store, place: Site) -> bool:
    async with store.read() as session:
        events = set(await session.scalars(select(col(WebhookEvent.id))))
        recovered = await session.scalars(select(col(Change.id)).where(col(Change.recovered)))
        events |= set(recovered)
    return events <= {identity for identity, _ in place.product.taken}


async def until_answered(place: Site) -> float:
    """Seconds until nginx has somebody who answers."""
    begun = time.monotonic()

    async def ready() -> bool:
        try:
            return (await place.http.get(f"{place.front}/readyz")).status_code == 200
        except httpx.HTTPError:
            return False

    await until(ready, seconds=200, what="a receiver")
    return time.monotonic() - begun


async def until_free(store: Store) -> float:
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
