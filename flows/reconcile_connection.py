"""Read one connection now."""

from typing import Annotated

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import Field

from flows.form import form
from flows.reconcile import Entities, Full, conclusion, read
from linekeeper.clock import utcnow
from linekeeper.customers.find import NotFound, find_connection
from linekeeper.reconcile.due import PASSES
from linekeeper.reconcile.named import UnknownEntity, find_entities, why_not_read
from linekeeper.reconcile.run import make_order
from tasks.run import is_paused, open_runtime, refused, rename, skipped


@flow(name="reconcile-connection", flow_run_name="reconcile {connection}", retries=0)
@form
async def reconcile_connection(
    connection: Annotated[
        str,
        Field(
            title="Connection",
            description="Its name, `Customer · System`, a tag, or Makini's key",
            examples=["Acme Metals · SAP ECC"],
            min_length=1,
        ),
    ],
    entities: Entities = None,
    full: Full = False,
) -> State[None]:
    """Read what changed at one connection, whatever its cadence, and say what was found.

    Ends `Failed` if it can't be read, or if nothing or more than one thing answers to the name.
    """
    if await is_paused():
        return skipped("Paused: the variable linekeeper_paused is set")
    async with open_runtime() as rt:
        try:
            async with rt.store.read() as session:
                named = await find_connection(session, connection)
            wanted = await find_entities(rt, entities)
        except (NotFound, UnknownEntity) as error:
            return refused(
                "connection, entities",
                error,
                "Enter a connection and entities that are listed in `fleet`.",
            )
        why = await why_not_read(rt, named.id)
        if why:
            await rename(f"reconcile · {named.label} · not read")
            return Failed(message=f"{named.label} can't be read: {why}")
        order = await make_order(
            rt,
            connections=[named.id],
            entities=wanted,
            full=full,
            everything=True,
            shard=None,
            started=utcnow(),
        )
        run = await read(rt, order, PASSES)
        state = await conclusion(rt, order, run, name=f"reconcile · {named.label}")
        if run.failures and not state.is_failed():
            one = run.failures[0]
            return Failed(message=f"{named.label}: {one.entity}: {one.message}")
        held = f", {run.held_back:,} look deleted and wait for you" if run.held_back else ""
        counts = run.counts
        if state.is_failed():
            return state
        return Completed(
            message=f"{named.label}: {run.records:,} records read, {run.written:,} written, "
            f"{counts.missed:,} missed by webhooks, {counts.webhooks_seen:,} announced, "
            f"{counts.late:,} late, {counts.mismatched:,} with other contents, "
            f"{counts.deleted:,} deleted{held}"
        )
