"""Poll every connection for what its webhooks missed, repair, and measure (MISSION W8, B3)."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.exceptions import FailedRun
from prefect.states import Completed, Failed
from pydantic import Field

from flows.form import form
from linekeeper.clock import utcnow
from linekeeper.customers.find import NotFound
from linekeeper.incidents.news import since
from linekeeper.incidents.suppressed import in_window
from linekeeper.reconcile.due import Order, Pass, due_in, unbearable
from linekeeper.reconcile.named import UnknownEntity, find_connections, find_entities
from linekeeper.reconcile.run import make_order
from linekeeper.reconcile.service import Failure, Run
from linekeeper.runtime import Runtime
from linekeeper.views.trust_page import KEY as TRUST
from linekeeper.views.trust_queries import together, trust_report
from tasks.notify import NotDelivered, notify
from tasks.reconcile import measure_webhooks, not_read, read_changes, report_trust
from tasks.report import is_stale
from tasks.run import (
    by_hand,
    completed,
    is_paused,
    only_one,
    open_runtime,
    refused,
    rename,
    skipped,
)

MOST_NAMED = 50
"""Failed task runs for connections that can't be read; the rest is in the artifact."""


Entities = Annotated[
    list[str] | None,
    Field(
        title="Entities",
        description="Only these, such as `eam/work-orders`; empty: all that are configured",
    ),
]
Full = Annotated[
    bool,
    Field(
        title="Full",
        description="List everything instead of what changed. Finds deletions; takes long",
    ),
]


@flow(name="reconcile", flow_run_name="reconcile", retries=0)
@form
async def reconcile(
    connections: Annotated[
        list[str] | None,
        Field(
            title="Connections",
            description="Only these, each by name, `Customer · System`, tag or Makini's key; "
            "empty: every one",
        ),
    ] = None,
    entities: Entities = None,
    full: Full = False,
    shard: Annotated[
        str | None,
        Field(
            title="Shard",
            description="Any word, another for each run that is to share the work; empty: one "
            "run. Whatever is left by a run that died, the others take over",
        ),
    ] = None,
) -> State[None]:
    """Read what changed at the sources, bring the index up to date, measure the webhooks.

    Ends `Failed` when a connection can't be read that could be before, each of them one failed task
    run, or when the work could not be done; `Skipped` where another run of the same shard is at it.
    A scheduled run reads what is due by its cadence, one started by hand reads everything.
    """
    if await is_paused():
        return skipped("Paused: the variable linekeeper_paused is set")
    async with open_runtime() as rt:
        try:
            ids = await find_connections(rt.store, connections)
            wanted = await find_entities(rt, entities)
        except (NotFound, UnknownEntity) as error:
            return refused(
                "connections, entities",
                error,
                "Enter connections and entities that are listed in `fleet`.",
            )
        async with only_one(f"reconcile:{shard or 'all'}") as held:
            if held is None:
                await rename("reconcile · skipped")
                return skipped("Another run is still reading; this one had nothing to add")
            order = await make_order(
                rt,
                connections=ids,
                entities=wanted,
                full=full,
                everything=by_hand(),
                shard=shard,
                started=utcnow(),
            )
            run = await read(rt, order, ("catch-up", "routine"))
        async with only_one(f"reconcile-full:{shard or 'all'}") as held:
            note = "" if held else "; another run is still listing everything"
            if held:
                run.add(await read(rt, order, ("full",)))
        return await conclusion(rt, order, run, name="reconcile", note=note)


async def read(rt: Runtime, order: Order, passes: Sequence[Pass]) -> Run:
    """These passes over every app; one in which nothing is due leaves no task run."""
    run = Run()
    for app in (await rt.configuration()).apps.values():
        for which in passes:
            due, circuits = await due_in(rt, app, order, which)
            run.circuits = max(run.circuits, circuits)
            if due:
                run.add(await read_changes(app.name, which, order))
    return run


async def conclusion(
    rt: Runtime, order: Order, run: Run, *, name: str, note: str = ""
) -> State[None]:
    """Measure, publish, tell; the state in which the run ends."""
    verdicts = await measure_webhooks(order, run)
    turned = any(one.after != one.before for one in verdicts)
    if turned or run.counts.recovered or by_hand() or await is_stale(TRUST):
        await report_trust()
    report = await trust_report(rt.store, now=utcnow())
    done = await since(rt.store, order.started)
    if done.lanes:
        with suppress(NotDelivered):  # it stays in the outbox, and the consumer tries on
            await notify(done.lanes)
    quiet = await in_window(rt.store, [one.connection_id for one in run.failures], utcnow())
    new = [one for one in newly_failed(run.failures) if one.connection_id not in quiet]
    for one in new[:MOST_NAMED]:
        with suppress(FailedRun):  # its failure is the message, not ours
            await not_read(one.label, f"{one.entity}: {one.message}")
    work = await together(rt.store, order.started, connections=order.connections)
    known = len({failure.connection_id for failure in run.failures}) - len(new)
    said = [work.summary]
    if new:
        said.append(f"{len(new)} newly not readable")
    if known:
        said.append(f"{known} known not readable")
    summary = ", ".join(said)
    await rename(f"{name} · {summary}")
    if name == "reconcile":
        await completed("reconcile")
    apps = (await rt.configuration()).apps.values()
    measured = report.measured
    rate = "" if measured.miss_rate is None else f"; miss rate {measured.miss_rate:.1%}"
    circuits = f"; {run.circuits} left alone, their circuit is open" if run.circuits else ""
    unborne = "".join([f"; {why}" for app in apps if (why := await unbearable(rt, app, order))])
    message = f"{summary}{rate}{circuits}{unborne}{note}"
    if not apps:
        return Failed(message="No Makini app is configured: fill in a MakiniApp block")
    if new:
        reasons = "; ".join(f"{one.label}: {one.entity}: {one.message}" for one in new[:5])
        more = f"; and {len(new) - 5} more" if len(new) > 5 else ""
        return Failed(message=f"{message}: {reasons}{more}")
    return Completed(message=message)


def newly_failed(failures: Sequence[Failure]) -> list[Failure]:
    """The first failure of each connection that could be read the last time."""
    first: dict[str, Failure] = {}
    for failure in failures:
        if failure.is_news:
            first.setdefault(failure.connection_id, failure)
    return list(first.values())
