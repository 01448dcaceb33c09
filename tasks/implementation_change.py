"""Carrying out what a form asks of an implementation that is underway."""

from prefect import get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed

from linekeeper.clock import utcnow
from linekeeper.implementation.advance import NoSuchImplementation
from linekeeper.implementation.change import Update, change
from linekeeper.implementation.scope import PlanError
from tasks.implementation import publish
from tasks.implementation_forms import renew_waiting
from tasks.run import open_runtime, refused, rename


async def carry_out(what: str, *wanted: Update) -> State[None]:
    """Do all of it or nothing; the state in which the run of the form ends."""
    async with open_runtime() as rt:
        name = wanted[0].implementation[:60]
        try:
            done = await change(rt.store, *wanted, now=utcnow())
        except PlanError as refusal:
            await rename(f"{what} · {name} · refused")
            return refused(refusal.field, refusal, "Correct it and send the form again.")
        except NoSuchImplementation as refusal:
            await rename(f"{what} · {name} · refused")
            return refused("implementation", refusal, "Enter the title shown in `portfolio`.")
        implementation = done.progress.standing.implementation
        await publish([implementation.id])
        await renew_waiting(done.progress.standing)
        await rename(f"{what} · {implementation.title}")
        get_run_logger().info("%s", done.message)
        if implementation.status in ("abandoned", "live"):
            return Completed(message=f"{done.message}.")
        outlook = done.progress.outlook
        said = {"none": "", "kept": ", on track"}
        promise = said.get(outlook.commitment, f", {outlook.commitment}")
        return Completed(message=f"{done.message}. Forecast go-live {outlook.p50} (P50){promise}")
