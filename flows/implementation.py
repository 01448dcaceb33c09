"""An implementation as one run: the gates of its plan are its graph, from kickoff to go-live."""

from dataclasses import replace
from typing import Annotated, Any, Literal
from uuid import uuid4

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.flow_runs import asuspend_flow_run
from prefect.states import Completed
from pydantic import BaseModel, ConfigDict, Field, model_validator

from flows.form import CommittedDay, Day, form
from linekeeper.clock import utcnow
from linekeeper.implementation.order import Form
from linekeeper.implementation.run import look_again, shown_by, take_stock
from linekeeper.implementation.scope import PlanError
from linekeeper.implementation.start import Started, start
from linekeeper.runtime import Runtime
from tasks.implementation import publish
from tasks.implementation_forms import renew_waiting
from tasks.implementation_run import show, takes_up, this_deployed_run
from tasks.run import is_paused, open_runtime, paused, refused, rename

WAITS_SECONDS = 5 * 365 * 86_400
"""Prefect's own time-out, far beyond any implementation."""


class System(BaseModel):
    """One system to connect. Of what is not given, the usual is taken."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(title="Name", description="As people call it, such as SAP ECC")
    target: str = Field(
        default="",
        title="Host and port",
        description="host:port or URL; for on-premises, and may come later",
    )
    tier: Literal["", "I", "II", "III"] = Field(
        default="", title="Tier", description="Empty: that of the product"
    )
    hosting: Literal["", "cloud", "on-premises", "self-hosted"] = Field(
        default="", title="Hosting", description="Empty: as the whole implementation"
    )

    vpn: bool = Field(
        default=False,
        title="VPN",
        description="Makini reaches it through a VPN tunnel, which the customer sets up",
    )

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, given: Any) -> Any:
        return {"name": given} if isinstance(given, str) else given


@flow(name="implementation", flow_run_name="implementation {customer}", retries=0)
@form
async def implementation(
    customer: Annotated[
        str,
        Field(
            title="Customer",
            description="The customer's name; a new name creates the customer",
            min_length=1,
        ),
    ],
    systems: Annotated[
        list[System],
        Field(title="Systems", description="The systems to connect, one entry each"),
    ],
    kickoff: Annotated[Day, Field(title="Kickoff", description="The first day")],
    by: Annotated[
        str, Field(title="Your name", description="Who starts it; kept in the audit", min_length=1)
    ],
    complexity: Annotated[
        Literal["standard", "custom", "enterprise"],
        Field(
            title="Complexity",
            description="standard: 1 to 2 weeks, no customisation. custom: 2 to 6. "
            "enterprise: several systems, 6 to 10",
        ),
    ] = "standard",
    hosting: Annotated[
        Literal["cloud", "on-premises", "self-hosted"],
        Field(title="Hosting", description="On-premises doubles the connection credits"),
    ] = "cloud",
    custom_workflows: Annotated[
        int, Field(title="Custom workflows", description="How many are to be built")
    ] = 0,
    committed: CommittedDay = None,
    country: Annotated[
        str,
        Field(
            title="Country",
            description="Two letters, such as DE: whose holidays count; empty: weekends only",
        ),
    ] = "",
    owner: Annotated[
        str,
        Field(
            title="Owner",
            description=(
                "Who of your team is responsible; empty: the customer's owner, or else whoever "
                "starts it"
            ),
        ),
    ] = "",
    app: Annotated[
        str, Field(title="App", description="The Makini app it connects to")
    ] = "default",
    over_credits_because: Annotated[
        str,
        Field(
            title="Start without enough credits, because",
            description="Only where credits are short: the reason to start all the same",
        ),
    ] = "",
) -> State[None]:
    """Show an implementation from its kickoff to its go-live, as the graph of one run.

    It waits suspended, and is woken when a step moves. It ends `Live` or `Abandoned`. The same
    customer and systems again move on the implementation there is. What can't be is refused with
    its field, and nothing is stored.
    """
    async with open_runtime() as rt:
        run = this_deployed_run()
        identifier = None if run is None else await shown_by(rt.store, str(run.id))
        if identifier is None:
            if await is_paused():
                return paused()
            apps = (await rt.configuration()).apps
            form = Form(
                customer=customer,
                systems=[system.name for system in systems],
                complexity=complexity,
                kickoff=kickoff,
                by=by,
                hosting=hosting,
                hostings=[system.hosting for system in systems],
                custom_workflows=custom_workflows,
                committed=committed,
                country=country,
                owner=owner,
                targets=[system.target for system in systems],
                tiers=[system.tier for system in systems],
                vpns=[system.vpn for system in systems],
                app=app,
                apps=tuple(apps),
                over_credits_because=over_credits_because,
            )
            run_id = None if run is None else str(run.id)
            if app in apps:
                form = replace(form, tariffs=apps[app].tariffs)
            try:
                started = await start(rt.store, form, run_id=run_id, now=utcnow())
            except PlanError as refusal:
                await rename(f"implementation · {customer[:60]} · refused")
                return refused(refusal.field, refusal, "Correct it and send the form again.")
            get_run_logger().info("%s", _message(started))
            if run is None or not (started.new or await takes_up(started.progress.standing, run)):
                return await _moved_on(started)
            if not started.new:
                await renew_waiting(started.progress.standing)  # their forms lead to the lost run
            identifier = started.progress.standing.implementation.id
        return await _show(rt, identifier)


async def _show(rt: Runtime, identifier: str) -> State[None]:
    """Draw the graph as it is now; then end, or wait until something moves."""
    now = utcnow()
    progress = await take_stock(rt.store, identifier, now=now)
    to_scale = await show(progress, now=now)
    await publish.fn([identifier])  # as a task it would be a node of the graph at every waking
    implementation = progress.standing.implementation
    ended = implementation.status in ("live", "abandoned")
    await look_again(rt.store, progress.standing, at=None if ended else to_scale, now=now)
    if implementation.status == "live":
        return Completed(
            name="Live",
            message=f"{implementation.title} is live since {implementation.actual['live']}.",
        )
    if implementation.status == "abandoned":
        return Completed(
            name="Abandoned",
            message=f"{implementation.title} was abandoned: {implementation.held_because}.",
        )
    await asuspend_flow_run(timeout=WAITS_SECONDS, key=str(uuid4()))
    raise AssertionError("unreachable: a suspended run begins from the top")


async def _moved_on(started: Started) -> State[None]:
    implementation = started.progress.standing.implementation
    await rename(f"{implementation.title} · {'started' if started.new else 'moved on'}")
    await publish([implementation.id])
    return Completed(message=_message(started))


def _message(started: Started) -> str:
    implementation, outlook = started.progress.standing.implementation, started.progress.outlook
    evaluation = started.progress.evaluation
    waiting = [started.progress.standing.gates[gate].title for gate in evaluation.having("open")]
    begins = (
        f"waits for: {', '.join(waiting)}" if waiting else f"begins on {implementation.kickoff}"
    )
    if implementation.status == "live":
        return f"{implementation.title} is live since {implementation.actual.get('live')}"
    word = "started" if started.new else "was there already, and was moved on"
    return (
        f"{implementation.title} {word}; {begins}. Forecast go-live {outlook.p50} (P50), "
        f"{outlook.p80} (P80). {started.credits} Artifact implementation-{implementation.slug}"
    )
