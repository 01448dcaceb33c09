"""A whole run: what is due of every app, pass by pass, then what it says of the webhooks."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from linekeeper.clock import utcnow
from linekeeper.health.scope import count_reads
from linekeeper.incidents.findings import resolve_of_disconnected
from linekeeper.reconcile import deleting, unmatched
from linekeeper.reconcile import measure as measuring
from linekeeper.reconcile.due import PASSES, PollOrder, standings
from linekeeper.reconcile.entity_incidents import settle_entities
from linekeeper.reconcile.measure import TrustVerdict, measure
from linekeeper.reconcile.outage import covered, note_outages, uncovered
from linekeeper.reconcile.pages import Sleep
from linekeeper.reconcile.purge import purge_disconnected
from linekeeper.reconcile.service import ReconcileRun, read_pass
from linekeeper.reconcile.together import together
from linekeeper.runtime import Runtime
from linekeeper.store import Store


async def reconcile(
    rt: Runtime,
    *,
    connections: Sequence[str] | None = None,
    entities: Sequence[str] | None = None,
    full: bool = False,
    everything: bool = True,
    shard: str | None = None,
    started: datetime | None = None,
    sleep: Sleep = asyncio.sleep,
) -> ReconcileRun:
    """Bring the index up to date and measure the webhooks: all that a run of the flow does.

    `everything` reads what isn't due by its cadence too; `full` lists all instead of what changed.
    Any number of these may run at once and share the work.
    """
    started = started or utcnow()
    wish = PollOrder(started, connections, entities, full, everything, shard)
    order = await with_window(rt.store, wish)
    total = ReconcileRun()
    for app in (await rt.configuration()).apps.values():
        for which in PASSES:
            total.add(await read_pass(rt, app, order, which, sleep=sleep))
    await conclude(rt, order)
    return total


async def with_window(store: Store, order: PollOrder) -> PollOrder:
    """`order` with what it is to cover of the absences of our receiver, which are found here."""
    await note_outages(store, now=order.started)
    return replace(order, window=await uncovered(store))


async def conclude(rt: Runtime, order: PollOrder) -> list[TrustVerdict]:
    """What a run says at its end: of our own outage, and of the webhooks; how they are trusted."""
    now = utcnow()
    whole = order.connections is None and order.entities is None
    if order.window is not None and whole:
        done = await together(rt.store, order.started)
        await covered(
            rt.store,
            order.window,
            connections=done.connections,
            left=await _left(rt, replace(order, everything=True)),
            recovered=done.caught_up,
            quiet=(await rt.configuration()).alerts.quiet,
            now=now,
        )
    if whole:
        await purge_disconnected(rt.store, now=now)
        topics = (deleting.TOPIC, measuring.TOPIC, unmatched.TOPIC)
        await resolve_of_disconnected(rt.store, topics, now=now)
    await settle_entities(rt, now=now)
    await count_reads(rt.store, order.started, now=now)
    return await measure(rt, now=now)


async def _left(rt: Runtime, order: PollOrder) -> int:
    """How many connections have not been read since the outages of `order` ended."""
    left = 0
    for app in (await rt.configuration()).apps.values():
        known, circuits = await standings(rt, app, order)
        left += circuits + sum(standing.misses(order.window) for standing in known)
    return left
