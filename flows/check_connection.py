"""Look at one connection, now."""

from contextlib import suppress

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.form import OneConnection, form
from linekeeper.clock import utcnow
from linekeeper.customers.find import NotFound, find_connection
from linekeeper.health.evidence import Health
from linekeeper.incidents.news import since
from linekeeper.store.tables import Connection
from linekeeper.text import state_name
from tasks.health import probe_connections
from tasks.notify import NotDelivered, notify
from tasks.report import report_connections, report_fleet
from tasks.run import is_paused, open_runtime, paused, refused, rename


@flow(name="check-connection", flow_run_name="check {connection}", retries=0)
@form
async def check_connection(
    connection: OneConnection,
) -> State[None]:
    """Ask Makini how one connection is, judge it, and say what was found.

    Ends `Failed` if it isn't well, or if nothing or more than one thing answers to the name.
    """
    if await is_paused():
        return paused()
    async with open_runtime() as rt:
        try:
            async with rt.store.read() as session:
                named = await find_connection(session, connection)
        except NotFound as error:
            return refused(
                "connection", error, "Enter its name, `Customer · System`, a tag or Makini's key."
            )
        before = utcnow()
        batch = await probe_connections(named.app, 1, [named.id], before)
        async with rt.store.read() as session:
            row = await session.get(Connection, named.id)
        assert row is not None  # it was found a moment ago, and rows are never removed
        words = state_name(row.health, row.evidence)
        await report_connections([named.id])
        done = await since(rt.store, before)
        if done.changed:
            await report_fleet()
        if done.ordering_keys:
            with suppress(NotDelivered):  # it stays in the outbox, and the consumer tries on
                await notify(done.ordering_keys)
        await rename(f"check · {named.label} · {words}")
        get_run_logger().info("%s is %s", named.label, words)
        if batch.skipped:
            why = batch.trouble or "Makini's call limit is reached"
            return Failed(message=f"{named.label} could not be asked: {why}")
        suspicion = " (did not answer this time)" if row.suspect and batch.missed else ""
        message = f"{named.label} is {words} since {row.health_since:%Y-%m-%d %H:%M} UTC{suspicion}"
        well = row.health == Health.healthy and not suspicion
        return Completed(message=message) if well else Failed(message=message)
