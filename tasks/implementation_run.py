"""The run of an implementation: its graph, its name and tags, and whether it is still there."""

from datetime import UTC, datetime
from uuid import UUID

from prefect import get_client, get_run_logger
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled

from linekeeper.clock import utcnow
from linekeeper.graph import draw_again_at, span
from linekeeper.implementation.graph import nodes, waits_for
from linekeeper.implementation.news import MAX_TAG
from linekeeper.implementation.progress import Progress
from linekeeper.implementation.run import take_up
from linekeeper.implementation.standing import Standing
from tasks.drawn import draw
from tasks.implementation import is_hung
from tasks.prefect_adapter.current import current_run
from tasks.prefect_adapter.links import find_links
from tasks.run import runtime


def this_deployed_run() -> FlowRun | None:
    """The run we are in; None if it has no deployment: such a run can't be suspended."""
    run = current_run()
    return run if run is not None and run.deployment_id is not None else None


async def takes_up(standing: Standing, run: FlowRun) -> bool:
    """Whether `run` shows that implementation from now on, because its own run is gone."""
    implementation = standing.implementation
    async with get_client() as client:
        if implementation.run_id is not None:
            other = await _read(client, implementation.run_id)
            if other is not None and not (other.state is None or other.state.is_final()):
                if not is_hung(other):
                    return False
                gone: State[None] = Cancelled(
                    message=f"Nothing ran it any more: {run.id} shows it now"
                )
                await client.set_flow_run_state(other.id, gone, force=True)
    taken = await take_up(
        runtime().store,
        implementation.id,
        str(run.id),
        instead_of=implementation.run_id,
        now=utcnow(),
    )
    if taken and implementation.run_id is not None:
        get_run_logger().warning(
            "This run was made again in place of %s, which was lost. What was settled before now "
            "is restored from Linekeeper's records, with its times.",
            implementation.run_id,
        )
    return taken


async def show(progress: Progress, *, now: datetime) -> datetime | None:
    """Draw this run's graph, and name and tag the run after what it shows.

    Returns when to draw it again because it isn't to scale yet; None if it is.
    """
    run = this_deployed_run()
    assert run is not None  # others don't show an implementation
    # Prefect's times are of a class of its own, whose differences do not divide.
    began = datetime.fromtimestamp(run.start_time.timestamp(), UTC) if run.start_time else now
    implementation = progress.standing.implementation
    async with get_client() as client:
        links = await find_links(client)
        graph_nodes = nodes(progress, began=began, form=links.run, now=now)
        drawn, to_scale = span(graph_nodes, began=began, now=now)
        for node in await draw(client, run, "gate", drawn, now=now):
            get_run_logger().info("%s: %s", node.title, node.message)
        mine = [
            f"implementation:{implementation.slug}",
            f"customer:{progress.standing.customer.slug}",
        ]
        waiting = [f"waiting:{who}" for who in waits_for(progress)]
        tags = {tag[:MAX_TAG] for tag in (*mine, *waiting)}
        tags |= {tag for tag in run.tags if not tag.startswith("waiting:")}
        done = round(100 * progress.evaluation.progress)
        await client.update_flow_run(
            run.id, name=f"{implementation.title} · {done} %", tags=sorted(tags)
        )
    return None if to_scale else draw_again_at(began=began, now=now)


async def _read(client: PrefectClient, run_id: str) -> FlowRun | None:
    try:
        return await client.read_flow_run(UUID(run_id))
    except ObjectNotFound:
        return None
