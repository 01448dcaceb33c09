"""Poll every connection for what its webhooks missed, repair, and measure (MISSION W8, B3)."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import Field

from flows.form import form
from linekeeper.clock import utcnow
from linekeeper.customers.find import NotFound, find_connection
from linekeeper.incidents.news import since
from linekeeper.incidents.windows import in_window
from linekeeper.reconcile.budget import over_budget
from linekeeper.reconcile.due import PASSES, Pass, PollOrder, due_in
from linekeeper.reconcile.named import (
    UnknownEntity,
    find_connections,
    find_entities,
    offered_by_nobody,
    why_not_read,
)
from linekeeper.reconcile.service import ReconcileRun
from linekeeper.reconcile.together import Whose, together
from linekeeper.reconcile.unread import find_unread
from linekeeper.runtime import Runtime
from linekeeper.text import counted, sentences
from linekeeper.views.tags import tagged
from linekeeper.views.trust_page import KEY as TRUST
from linekeeper.views.trust_queries import trust_report
from tasks.graph import follow, show_in_trouble
from tasks.notify import NotDelivered, notify
from tasks.reconcile import measure_webhooks, plan, read_changes, report_trust
from tasks.report import is_stale
from tasks.run import (
    by_hand,
    completed,
    is_paused,
    only_one,
    open_runtime,
    paused,
    refused,
    rename,
    skipped,
)

MOST_NAMED = 50
"""Failed task runs for connections that can't be read; the rest is in the artifact."""


@flow(name="reconcile", flow_run_name="reconcile", retries=0)
@form
async def reconcile(
    connections: Annotated[
        list[str] | None,
        Field(
            title="Connections",
            description=(
                "Only these connections, each by name, `Customer · System`, tag or Makini's key, "
                "whatever their cadence; empty: all"
            ),
            examples=[["Acme Metals · SAP ECC"]],
        ),
    ] = None,
    entities: Annotated[
        list[str] | None,
        Field(
            title="Entities",
            description="Only these, such as `eam/work-orders`; empty: all that are configured",
        ),
    ] = None,
    full: Annotated[
        bool,
        Field(
            title="Full",
            description="List everything instead of what changed. Finds deletions; takes long",
        ),
    ] = False,
    shard: Annotated[
        str | None,
        Field(
            title="Shard",
            description=(
                "The name of a share of the work, a different one for each run that shares it; "
                "empty: one run does all. If a run dies, the others take over its share"
            ),
        ),
    ] = None,
) -> State[None]:
    """Read what changed at the sources, bring the index up to date, measure the webhooks.

    Ends `Failed` when a connection can't be read and no incident said so before, each of them one
    failed task run, or when the work could not be done; `Skipped` where another run of the same
    shard is at it.
    A scheduled run reads what is due by its cadence, one started by hand reads everything; one of
    some connections waits for no other run.
    """
    if await is_paused():
        return paused()
    async with open_runtime() as rt:
        try:
            ids = await find_connections(rt.store, connections)
            wanted = await find_entities(rt, entities)
        except NotFound as error:
            names = "names, `Customer · System`, tags or Makini's keys"
            return refused("connections", error, f"Enter {names}; the page `connections` has them.")
        except UnknownEntity as error:
            return refused("entities", error, "Correct it and send the form again.")
        reading = RunReading(rt, ids, wanted, full, shard)
        if ids is not None:
            return await _unless_offered_by_nobody(reading, await _read_named(reading, ids))
        async with only_one(f"reconcile:{shard or 'all'}") as held:
            if held is None:
                await rename("reconcile · skipped")
                return skipped("Another run is still reading; this one had nothing to do")
            await reading.read(("backfill", "routine"))
        async with only_one(f"reconcile-full:{shard or 'all'}") as held:
            note = "" if held else "; another run is still listing everything"
            if held:
                await reading.read(("full",))
        ended = await _conclude(reading, name="reconcile", note=note)
        return await _unless_offered_by_nobody(reading, ended)


async def _unless_offered_by_nobody(reading: "RunReading", ended: State[None]) -> State[None]:
    """Say of entities that were named, and that no system offers, that nothing was read of them."""
    wanted = reading.wanted or []
    missing = await offered_by_nobody(reading.rt, wanted, reading.connections) if wanted else []
    if not missing or ended.is_failed():
        return ended
    said = f"no system that was asked offers {', '.join(missing)}"
    if len(missing) == len(wanted):
        return refused("entities", said, "Nothing was read. Enter what the systems offer.")
    return Completed(message=f"{ended.message}; {said}")


class RunReading:
    """What one run reads, and the states of its tasks for the edges of its graph."""

    def __init__(
        self,
        rt: Runtime,
        connections: Sequence[str] | None,
        entities: Sequence[str] | None,
        full: bool,
        shard: str | None,
    ) -> None:
        self.rt = rt
        self.connections, self.wanted = connections, entities
        self.run = ReconcileRun()
        self._wish = PollOrder(
            utcnow(),
            connections,
            entities,
            full,
            everything=connections is not None or by_hand(),
            shard=shard,
        )
        self._order: PollOrder | None = None
        self._planned: State[PollOrder] | None = None
        self._read: list[State[ReconcileRun]] = []

    async def order(self) -> PollOrder:
        """What is to be read; planned once, when it is first asked for."""
        if self._order is None:
            self._order, self._planned = await follow(plan, self._wish)
        assert self._order is not None
        return self._order

    @property
    def ends(self) -> Sequence[State[Any] | None]:
        """What comes after the reading comes after these."""
        return self._read or [self._planned]

    async def read(self, passes: Sequence[Pass]) -> None:
        """These passes over every app; one in which nothing is due leaves no task run."""
        order = await self.order()
        for app in (await self.rt.configuration()).apps.values():
            for which in passes:
                due, circuits = await due_in(self.rt, app, order, which)
                self.run.circuits = max(self.run.circuits, circuits)
                if due:
                    run, state = await follow(
                        read_changes, app.name, which, order, before=[self._planned]
                    )
                    self._read.append(state)
                    self.run.add(run)


async def _read_named(reading: RunReading, ids: Sequence[str]) -> State[None]:
    """Read some connections now. Of one, say why it can't be read, and what was found."""
    rt = reading.rt
    if len(ids) > 1:
        await reading.read(PASSES)
        return await _conclude(reading, name=f"reconcile · {counted(len(ids), 'connection')}")
    async with rt.store.read() as session:
        label = (await find_connection(session, ids[0])).label
    why = await why_not_read(rt, ids[0])
    if why:
        await rename(f"reconcile · {label} · not read")
        return Failed(message=f"{label} can't be read: {why}")
    await reading.read(PASSES)
    state = await _conclude(reading, name=f"reconcile · {label}")
    run, counts = reading.run, reading.run.counts
    if state.is_failed():
        return state
    if run.failures:
        failure = run.failures[0]
        return Failed(message=f"{label}: {failure.entity}: {failure.message}")
    held = f", {run.held_back:,} look deleted and wait for you" if run.held_back else ""
    held += f", {counted(run.broken_off, 'list')} ended too early" if run.broken_off else ""
    return Completed(
        message=f"{label}: {counted(run.records, 'record')} read, {run.written:,} written, "
        f"{counts.missed:,} that no webhook announced, {counts.webhooks_seen:,} announced, "
        f"{counts.late:,} late, {counts.mismatched:,} with other contents, "
        f"{counts.deleted:,} deleted{held}"
    )


async def _conclude(reading: RunReading, *, name: str, note: str = "") -> State[None]:
    """Measure, publish, notify; the state in which the run ends."""
    rt, run, order = reading.rt, reading.run, await reading.order()
    verdicts, measured = await follow(measure_webhooks, order, before=reading.ends)
    last = measured
    turned = any(verdict.after != verdict.before for verdict in verdicts)
    if turned or run.counts.recovered or by_hand() or await is_stale(TRUST):
        _, last = await follow(report_trust, before=[measured])
    report = await trust_report(rt.store, now=utcnow())
    done = await since(rt.store, order.started)
    quiet = await in_window(rt.store, [failure.connection_id for failure in run.failures], utcnow())
    unread = await find_unread(rt, order, run.failures)
    new = [failure for failure in unread.news if failure.connection_id not in quiet]
    about = await tagged(rt.store, [failure.connection_id for failure in new[:MOST_NAMED]])
    for failure in new[:MOST_NAMED]:
        sentence = f"{failure.entity}: {failure.message}"
        await show_in_trouble(
            failure.label, sentence, about.get(failure.connection_id), before=reading.ends
        )
    if done.ordering_keys:
        with suppress(NotDelivered):  # it stays in the outbox, and the consumer tries on
            await follow(notify, done.ordering_keys, before=[last])
    # Shards share the work; any other run beside this one has a name of its own for what it finds.
    whose: Whose = "run" if order.shard is None else "shards"
    work = await together(rt.store, order.started, connections=order.connections, whose=whose)
    counts = [
        (len(new), "newly not readable"),
        (unread.known, "known not readable"),
        (len(unread.news) - len(new), "newly not readable and not announced"),
    ]
    summary = ", ".join([work.summary, *(f"{count} {what}" for count, what in counts if count)])
    await rename(f"{name} · {summary}")
    if order.connections is None:
        await completed("reconcile")
    apps = (await rt.configuration()).apps.values()
    measured_rate = report.measured.miss_rate
    rate = "" if measured_rate is None else f"; in 7 days webhooks missed {measured_rate:.1%}"
    circuits = f"; {run.circuits} not tried: system or login is down" if run.circuits else ""
    over = "".join([f"; {why}" for app in apps if (why := await over_budget(rt, app, order))])
    message = f"{summary}{rate}{circuits}{over}{note}"
    if not apps:
        return Failed(message="No Makini app is configured: fill in a MakiniApp block")
    if new:
        reasons = sentences(
            f"{failure.label}: {failure.entity}: {failure.message}" for failure in new
        )
        return Failed(message=f"{message}: {reasons}")
    return Completed(message=message)
