"""Move all implementations on, and start again what was lost."""

from typing import Annotated

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from flows.form import form
from linekeeper.clock import utcnow
from linekeeper.implementation import run, successor, work
from linekeeper.implementation.advance import (
    NoSuchImplementation,
    advance,
    advance_all,
    restart_lost,
)
from linekeeper.implementation.find import find_implementation
from linekeeper.implementation.watch import ADVANCING
from linekeeper.runtime import Runtime
from linekeeper.text import counted
from tasks.implementation import publish, unfinished_runs
from tasks.implementation_forms import renew_all_waiting, renew_waiting
from tasks.run import (
    completed,
    is_paused,
    only_one,
    open_runtime,
    paused,
    refused,
    rename,
    skipped,
)


@flow(name="advance-implementations", flow_run_name="advance", retries=0)
@form
async def advance_implementations(
    implementation: Annotated[
        str,
        Field(
            title="Implementation",
            description="One only, by its title, slug or customer; empty: all",
        ),
    ] = "",
) -> State[None]:
    """Settle what has its evidence, open what became possible, update forecasts, warn of slips.

    Starts the run of an implementation, of an open step, of a login's set-up or of a configuration
    again if it was lost, and has the forms of those that wait say what is so by now.
    """
    if await is_paused():
        return paused()
    async with open_runtime() as rt:
        if implementation.strip():
            return await _advance(rt, implementation)
        async with only_one(ADVANCING) as held:
            if held is None:
                await rename("advance · skipped")
                return skipped("Another run is moving them on")
            return await _all(rt)


async def _advance(rt: Runtime, wanted: str) -> State[None]:
    try:
        async with rt.store.read() as session:
            identifier = await find_implementation(session, wanted)
        progress = await advance(rt.store, identifier, now=utcnow())
    except NoSuchImplementation as error:
        return refused("implementation", error, "Enter the title shown in `portfolio`.")
    await publish([identifier])
    await renew_waiting(progress.standing)
    implementation = progress.standing.implementation
    done = round(100 * progress.evaluation.progress)
    await rename(f"advance · {implementation.title} · {done} %")
    return Completed(
        message=f"{implementation.title}: {done} %, forecast go-live {progress.outlook.p50} (P50)"
    )


async def _all(rt: Runtime) -> State[None]:
    before = utcnow()
    alive = await unfinished_runs()
    done = await advance_all(rt.store, now=utcnow())
    restarted = await restart_lost(rt.store, alive.gates, before=before, now=utcnow())
    restarted += await run.restart_lost(
        rt.store, alive.implementations, before=before, now=utcnow()
    )
    for restart in (work.restart_lost, successor.restart_lost):
        restarted += await restart(rt.store, alive.work, before=before, now=utcnow())
    await run.wake(rt.store, done.aged, because=f"{before:%Y%m%d%H}", now=utcnow())
    await publish([*done.moved, *done.aged])
    await renew_all_waiting()
    for line in done.slipping:
        get_run_logger().warning("%s", line)
    await completed("advance-implementations")
    summary = (
        f"{done.looked_at} looked at, {len(done.moved)} moved on, {len(done.slipping)} slipping"
    )
    if restarted:
        summary += f", {counted(restarted, 'lost run')} started again"
    await rename(f"advance · {len(done.moved)} moved on, {len(done.slipping)} slipping")
    return Completed(message=summary)
