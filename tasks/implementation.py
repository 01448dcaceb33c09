"""Steps of implementations: which gates have a run, what people see."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import get_args

from prefect import get_client
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import TERMINAL_STATES, FlowRun, State, StateType
from prefect.tasks import exponential_backoff

from linekeeper.clock import utcnow
from linekeeper.credits.report import credits_markdown
from linekeeper.credits.service import ledger, ledger_apps
from linekeeper.implementation import queries, successor, work
from linekeeper.implementation.advance import look
from linekeeper.implementation.news import implementation_key
from linekeeper.implementation.plan import Work
from linekeeper.implementation.progress import Progress
from linekeeper.implementation.question import step_of_markdown
from linekeeper.implementation.report import (
    PORTFOLIO,
    PortfolioLine,
    handover_key,
    implementation_markdown,
    portfolio_markdown,
)
from linekeeper.implementation.standing import Standing
from linekeeper.notify.channels import with_artifacts
from linekeeper.preflight.handover import HandoverSystem, handover
from linekeeper.preflight.network import Network, usable_network
from linekeeper.preflight.targets import parse_target
from tasks.prefect_adapter.current import current_run
from tasks.prefect_adapter.links import find_links, links_from_a_page
from tasks.prefect_adapter.names import deployment_name, every
from tasks.report import put_artifact
from tasks.run import rename, runtime, skipped
from tasks.task import task

CREDITS = "credits"
LIVE_SHOWN = timedelta(days=90)
HUNG = timedelta(minutes=15)
"""A gate's run suspends within seconds: one that runs longer has lost its process."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """Runs that are not over."""

    gates: set[str]
    """Ids of the gates that have one."""
    implementations: set[str]
    """Ids and idempotency keys of the runs of implementations."""
    work: set[str]
    """The same of the runs that do the work of gates."""


@task(
    name="publish-implementations",
    task_run_name="update implementation pages",
    retries=2,
    retry_delay_seconds=exponential_backoff(backoff_factor=3),
)
async def publish(ids: Sequence[str]) -> None:
    """Write `implementation-<slug>` (and `handover-<slug>`) of `ids`, `portfolio` and `credits`."""
    rt, now = runtime(), utcnow()
    network = usable_network(rt.settings.network_file)
    async with get_client() as client:
        deployed = await links_from_a_page(client)
        for identifier in ids:
            progress = await look(rt.store, identifier, now=now)
            implementation = progress.standing.implementation
            await put_artifact(
                client,
                handover_key(implementation.slug),
                _handover(progress, network),
                description=f"For the IT of {implementation.title}",
            )
            links = await with_artifacts(
                rt.store, deployed, [handover_key(implementation.slug), PORTFOLIO]
            )
            await put_artifact(
                client,
                implementation_key(implementation.slug),
                implementation_markdown(progress, now, links),
                description=implementation.title,
            )
        async with rt.store.read() as session:
            rows = await queries.portfolio(session, live_since=now - LIVE_SHOWN)
        pages = [implementation_key(row.slug) for row, _ in rows]
        links = await with_artifacts(rt.store, deployed, pages)
        await put_artifact(
            client,
            PORTFOLIO,
            portfolio_markdown(
                [PortfolioLine(row, tuple(gates)) for row, gates in rows], now, links
            ),
            description="All implementations, those at risk first",
        )
        apps = await ledger_apps(rt.store)
        await put_artifact(
            client,
            CREDITS,
            "\n".join(
                [
                    credits_markdown(
                        await ledger(rt.store, today=now.date(), app=app),
                        now,
                        app=app if len(apps) > 1 else None,
                    )
                    for app in apps
                ]
            ),
            description="Connection credits (estimate)",
        )


@task(
    name="runs-of-implementations",
    task_run_name="find unfinished runs",
    retries=3,
    retry_delay_seconds=exponential_backoff(backoff_factor=3),
)
async def unfinished_runs() -> Unfinished:
    """What has a run that waits, or is about to."""
    async with get_client() as client:
        gates = await _unfinished(client, "gate")
        implementations = await _unfinished(client, "implementation")
        works = [run for name in get_args(Work) for run in await _unfinished(client, name)]
    return Unfinished(
        gates={str(run.parameters.get("gate")) for run in gates},
        implementations=_names(implementations),
        work=_names(works),
    )


def _names(runs: Sequence[FlowRun]) -> set[str]:
    return {str(run.id) for run in runs} | {
        run.idempotency_key for run in runs if run.idempotency_key
    }


async def _unfinished(client: PrefectClient, deployment: str) -> list[FlowRun]:
    states = [state for state in StateType if state not in TERMINAL_STATES]
    name = DeploymentFilterName(any_=[deployment_name(deployment)])
    unfinished = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=states)))
    runs = await every(
        client.read_flow_runs,
        deployment_filter=DeploymentFilter(name=name),
        flow_run_filter=unfinished,
    )
    return [run for run in runs if not is_hung(run)]


def this_run() -> str | None:
    """The id of the flow run we are in."""
    run = current_run()
    return str(run.id) if run else None


async def graph_of(standing: Standing) -> str | None:
    """The address of the run whose graph shows an implementation; None while it has none."""
    return await run_page(standing.implementation.run_id)


async def run_page(run_id: str | None) -> str | None:
    """The address of a run's page; None where there is no run."""
    if run_id is None:
        return None
    async with get_client() as client:
        return (await find_links(client)).run(run_id)


async def not_needed(what: str, claim: work.Claim) -> State[None]:
    """The ending of a run for a gate that has another run, or was settled."""
    await rename(f"{what} · not needed")
    return skipped(
        "Another run does this step" if claim == "taken" else "This step is settled already"
    )


async def gate_key() -> str | None:
    """The idempotency key of this run if Linekeeper started it to do the work of a gate."""
    key = _idempotency_key()
    return key if await work.gate_of_key(runtime().store, key) is not None else None


async def run_to_replace() -> str | None:
    """The lost run whose place this run takes, if Linekeeper started it for that."""
    return await successor.lost_run(runtime().store, _idempotency_key())


def _idempotency_key() -> str | None:
    run = current_run()
    return run.idempotency_key if run else None


async def step_of(run_id: str) -> str:
    """Say of which implementation that run does a step, with a link to its graph; empty: of
    none."""
    standing = await work.standing_of(runtime().store, run_id)
    if standing is None:
        return ""
    return step_of_markdown(standing.implementation, await graph_of(standing))


def is_hung(run: FlowRun) -> bool:
    """Whether it lost its process: it suspends within seconds, and has been at work for long."""
    state = run.state
    if state is None or state.type not in (StateType.RUNNING, StateType.PENDING):
        return False
    return utcnow() - state.timestamp > HUNG


def _handover(progress: Progress, network: Network) -> str:
    """What the customer's IT is handed; what is known already, also before any host is."""
    standing = progress.standing
    systems = [
        HandoverSystem(
            system.name,
            parse_target(system.target) if system.target is not None else None,
            vpn=system.vpn,
            hosting=standing.plan.scope.hosting_of(system.number),
        )
        for system in standing.systems
    ]
    return handover(standing.customer.name, systems, standing.plan.scope.hosting, network)
