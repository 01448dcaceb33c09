"""The runs that wait for a gate, or do its work: what their forms say, and whom they wait for."""

from uuid import UUID

import httpx
from prefect import get_client, get_run_logger
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

from linekeeper.authentication_setup import service
from linekeeper.authentication_setup.decide import SetupStanding as Setup
from linekeeper.authentication_setup.question import what_is_missing
from linekeeper.clock import utcnow
from linekeeper.implementation import queries, work
from linekeeper.implementation.advance import advance
from linekeeper.implementation.answer import GateQuestion, ask
from linekeeper.implementation.evaluate import SETTLED
from linekeeper.implementation.news import tags
from linekeeper.implementation.question import gate_question_markdown
from linekeeper.implementation.standing import Standing
from linekeeper.store.tables import Gate
from tasks.implementation import graph_of, run_page, step_of
from tasks.prefect_adapter.current import current_run
from tasks.run import runtime
from tasks.waiting_form import renew


async def gate_question(asked: GateQuestion) -> str:
    """What the form of a gate's run says."""
    graph, works = await graph_of(asked.standing), await run_page(asked.row.work_run_id)
    return gate_question_markdown(asked, graph=graph, works=works)


async def setup_question(standing: Setup) -> str:
    """What the form of a run says that sets up a login."""
    return what_is_missing(standing) + await step_of(standing.row.run_id)


async def renew_all_waiting() -> None:
    """Do what `renew_waiting` does for every implementation that is underway."""
    async with runtime().store.read() as session:
        underway = await queries.load_underway(session)
    for standing in underway:
        await renew_waiting(standing)


async def renew_waiting(standing: Standing) -> None:
    """Have the runs that wait for the gates of `standing` show what is so by now.

    Their forms say it, and their tags whom they wait for. Where Prefect does not answer, that is
    left to the next hour.
    """
    try:
        async with get_client() as client:
            for row in standing.gates.values():
                if row.status not in SETTLED:
                    await _renew_those_of(client, standing, row)
    except (httpx.HTTPError, PrefectHTTPStatusError) as error:
        get_run_logger().warning(
            "%s: the forms of its runs could not be renewed: %s",
            standing.implementation.title,
            type(error).__name__,
        )


async def _renew_those_of(client: PrefectClient, standing: Standing, row: Gate) -> None:
    run = await _waiting(client, row.run_id)
    if run is not None:
        await _tag(client, run, standing, row)
        asked = await ask(runtime().store, row.id, run_id=row.run_id)
        if not asked.settled:
            await renew(client, run, await gate_question(asked))
    await _renew_work(client, standing, row)


async def _renew_work(client: PrefectClient, standing: Standing, row: Gate) -> None:
    """The same for the run that does the gate's work; by hand it may begin before the gate."""
    run = None if row.is_work_over else await _waiting(client, row.work_run_id)
    if run is None:
        return
    await _tag(client, run, standing, row)
    if await service.has_begun(runtime(), str(run.id)):
        set_up = await service.load_standing(runtime(), str(run.id), now=utcnow())
        if set_up.step == set_up.row.waits_for:  # otherwise it is about to be woken
            await renew(client, run, await setup_question(set_up))


async def _waiting(client: PrefectClient, run_id: str | None) -> FlowRun | None:
    """The run, where it isn't over; one that was lost is started again with its tags."""
    try:
        run = None if run_id is None else await client.read_flow_run(UUID(run_id))
    except ObjectNotFound:
        return None
    return None if run is None or (run.state is not None and run.state.is_final()) else run


async def retag(asked: GateQuestion) -> None:
    """Tag this run with whom it waits for now, beside what it was tagged with.

    So is the run that does the work of its gate.
    """
    if (run := current_run()) is None:
        return
    async with get_client() as client:
        await _tag(client, run, asked.standing, asked.row)
        await _renew_work(client, asked.standing, asked.row)


async def retag_work(run_id: str) -> None:
    """Tag the run `run_id`, which we are in and which does the work of a gate, as `retag` does.

    Whose turn the gate is may have changed just now: somebody has logged in.
    """
    standing = await work.standing_of(runtime().store, run_id)
    if standing is None:
        return
    progress = await advance(runtime().store, standing.implementation.id, now=utcnow())
    rows = progress.standing.gates.values()
    row = next((row for row in rows if row.work_run_id == run_id), None)
    async with get_client() as client:
        run = await client.read_flow_run(UUID(run_id))
        if row is not None:
            await _tag(client, run, progress.standing, row)


async def _tag(client: PrefectClient, run: FlowRun, standing: Standing, row: Gate) -> None:
    if row.status not in ("open", "blocked"):
        return
    kept = {tag for tag in run.tags if not tag.startswith(("waiting:", "owner:"))}
    wanted = kept | set(tags(standing, row))
    if wanted != set(run.tags):
        await client.update_flow_run(run.id, tags=sorted(wanted))
