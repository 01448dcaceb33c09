"""`linekeeper deploy`: everything Prefect holds for Linekeeper; seeds, compares, never tramples."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, TypeVar

import httpx
import typer
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import VariableCreate, WorkPoolCreate
from prefect.client.schemas.objects import WorkQueue
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectAlreadyExists, PrefectHTTPStatusError
from rich.console import Console

from linekeeper.cli.guards import is_up
from linekeeper.preflight.verdict import vantage_queue
from linekeeper.refusal import UserError
from linekeeper.settings import Settings
from linekeeper.text import counted
from tasks.prefect_adapter import automations, block_documents, deployments, project
from tasks.prefect_adapter import settings as prefect_settings
from tasks.prefect_adapter.deployed import as_it_was
from tasks.prefect_adapter.job_template import base_job_template
from tasks.prefect_adapter.names import (
    PAUSED_VARIABLE,
    deployment_name,
    every,
    tag,
    variable_name,
)
from tasks.prefect_adapter.server import QUEUES, VANTAGE, prefect_at, require_prefect_address

START_SECONDS = 240.0
"""How long a server that is just starting is waited for."""
AT_ONCE = 3
"""Deployments on their way: with more the server's SQLite keeps each waiting for the others."""
_Answer = TypeVar("_Answer")


async def deploy(
    settings: Settings,
    *,
    reset: bool,
    console: Console,
    schedules_active: bool = True,
    demo: project.Demo | None = None,
    beside_up: bool = False,
) -> None:
    """Make pool, queues, block types, blocks, variable, deployments and automations.

    What is missing is made. What an operator set stays and is shown where it differs; `reset` puts
    it back. Without `schedules_active` every schedule is paused, those that are there too.
    Into a Prefect that is new, though ours is not, goes what operators had set in the one before.
    `demo` gives schedules of the sandbox's own, which go with the next deploy without it, but not
    `beside_up`, which made them. Raises `UserError` if Prefect can't be reached or refuses.
    """
    with prefect_at(settings) as url:
        require_prefect_address(url)
        async with get_client() as client, prefect_settings.memory(settings) as memory:
            wanted = await project.wanted_deployments(client=client)
            if demo is not None:
                wanted = project.with_demo(wanted, demo)
            seeder = _Seeder(client, url, console, memory, settings=settings, reset=reset)
            await seeder.recall()
            await seeder.blocks(settings)
            await seeder.infrastructure()
            await seeder.deployments(wanted, schedules_active=schedules_active, keep_demo=beside_up)
            await seeder.automations()
            await seeder.remember()
    seeder.say_the_end(len(wanted))


class _Seeder:
    """One pass over what the server should have; prints what it did."""

    def __init__(
        self,
        client: PrefectClient,
        url: str,
        console: Console,
        memory: prefect_settings.Memory,
        *,
        settings: Settings,
        reset: bool,
    ) -> None:
        self._settings = settings
        self._client, self._url, self._console, self._reset = client, url, console, reset
        self._memory = memory
        self._lost: prefect_settings.PrefectSettings | None = None
        """What an operator had set in a Prefect that is gone."""
        self._left = 0
        self._was_said = False

    async def recall(self) -> None:
        """See whether this Prefect is a new one, and what was set in the one before."""
        if self._reset:
            return
        self._lost = await self._patiently(lambda: self._memory.lost(self._client))
        if self._lost is not None:
            self._say("this Prefect is new: what operators had set before is restored")
            self._lost, problems = await prefect_settings.put_documents_back(
                self._client, self._lost
            )
            for problem in problems:
                self._say(problem)

    async def remember(self) -> None:
        """Keep what is set now in our database, for the day Prefect's is lost."""
        await self._patiently(lambda: self._memory.keep(self._client))
        if self._memory.trouble:
            self._say(f"what is set in Prefect can't be remembered: {self._memory.trouble}")

    async def infrastructure(self) -> None:
        """Pool, queues, variable."""
        name, kind = self._settings.work_pool, self._settings.work_pool_type
        pool = WorkPoolCreate(
            name=name,
            type=kind,
            description="Runs Linekeeper's flows.",
            base_job_template=await self._patiently(
                lambda: base_job_template(self._client, self._settings)
            ),
        )
        there: set[str] = set()
        if await self._make(lambda: self._client.create_work_pool(pool)):
            self._made(f"work pool {name}")
        else:
            there = {queue.name for queue in await self._patiently(self._queues)}
        queues = dict(QUEUES)
        if self._settings.worker:  # what only this worker can check comes through it
            queues[vantage_queue(self._settings.worker)] = VANTAGE
        for name, (priority, limit) in queues.items():
            if name in there:
                continue
            create_queue = partial(
                self._client.create_work_queue,
                name,
                priority=priority,
                concurrency_limit=limit,
                work_pool_name=self._settings.work_pool,
            )
            if await self._make(create_queue):
                self._made(f"work queue {name}")
        variables = {variable_name(PAUSED_VARIABLE): {"value": False, "tags": [tag()]}}
        for name, fields in (variables | (self._lost.variables if self._lost else {})).items():
            variable = VariableCreate(name=name, **fields)
            if await self._make(partial(self._client.create_variable, variable)):
                self._made(f"variable {name}")
        if self._lost is not None:
            await self._patiently(partial(prefect_settings.put_pool_back, self._client, self._lost))

    async def _queues(self) -> list[WorkQueue]:
        pool = self._settings.work_pool
        return await every(self._client.read_work_queues, work_pool_name=pool)

    async def blocks(self, settings: Settings) -> None:
        """Block types, and the documents the settings describe."""
        await self._patiently(lambda: block_documents.register(self._client))
        before = None if self._reset else await self._memory.blocks(settings, self._lost)
        made, different = await self._patiently(
            lambda: block_documents.seed(self._client, settings, reset=self._reset, before=before)
        )
        for name in made:
            self._made(f"block {name}")
        for line in different:
            self._differs(f"block {line}")

    async def deployments(
        self, wanted: list[project.Wanted], *, schedules_active: bool, keep_demo: bool
    ) -> None:
        """The deployments; those of earlier versions go, for their flows are no more."""
        there = await self._patiently(lambda: deployments.there(self._client, wanted))
        if keep_demo:
            wanted = [project.with_demo_of(each, there.get(each.name)) for each in wanted]
        for name, existing in there.items():
            if deployments.is_gone(existing, name):
                await self._patiently(partial(self._client.delete_deployment, existing.id))
                self._console.print(f"deployment {name}: deleted, its flow is gone", markup=False)
        side_by_side = asyncio.Semaphore(AT_ONCE)

        async def bring(deployment: project.Wanted) -> None:
            async with side_by_side:
                await self._deployment(
                    there.get(deployment.name), deployment, schedules_active=schedules_active
                )

        await asyncio.gather(*(bring(deployment) for deployment in wanted))

    async def _deployment(
        self, existing: DeploymentResponse | None, wanted: project.Wanted, *, schedules_active: bool
    ) -> None:
        outcome = await self._patiently(
            lambda: deployments.upsert(
                self._client,
                existing,
                _as_it_was(wanted, self._lost),
                shipped=wanted,
                reset=self._reset,
                schedules_active=schedules_active,
            )
        )
        if outcome.made:
            self._made(f"deployment {wanted.name}")
        for change in outcome.changed:
            self._console.print(f"deployment {wanted.name}: {change}", markup=False)
        for line in outcome.different:
            self._differs(f"deployment {wanted.name}: {line}")

    async def automations(self) -> None:
        alerts = await self._patiently(
            lambda: automations.alerts_block(self._client, self._settings)
        )
        wanted = automations.wanted_automations(self._settings.work_pool, alerts)
        if self._lost is not None:
            before = {
                name: automation
                for name, row in self._lost.automations.items()
                if not automations.does_nothing(automation := prefect_settings.automation(row))
                and not automations.is_gone(automation)
            }
            wanted = [
                *(
                    {automation_core.name: automation_core for automation_core in wanted} | before
                ).values()
            ]
        made, different = await self._patiently(
            lambda: automations.upsert(self._client, wanted, reset=self._reset)
        )
        for name in made:
            self._made(f"automation {name}")
        for line in different:
            self._differs(f"automation {line}")

    def say_the_end(self, count: int) -> None:
        """The last line."""
        left = (
            f"; {counted(self._left, 'difference')} left as set in Prefect (--reset undoes that)"
            if self._left
            else ""
        )
        self._console.print(f"deployed {count} deployments to {self._url}{left}", markup=False)

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False)

    def _made(self, what: str) -> None:
        self._say(f"{'set' if self._reset else 'made'} {what}")

    def _differs(self, what: str) -> None:
        self._left += 1
        self._console.print(f"left {what}", markup=False)

    async def _make(self, create: Callable[[], Awaitable[object]]) -> bool:
        """Whether `create` made something; False if it was there."""
        try:
            await self._patiently(create)
        except ObjectAlreadyExists:
            return False
        return True

    async def _patiently(self, step: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Repeat `step`, which may be repeated, while the server is starting or overloaded."""
        deadline, wait = time.monotonic() + START_SECONDS, 0.25
        while True:
            try:
                return await step()
            except ObjectAlreadyExists:
                raise
            except PrefectHTTPStatusError as error:
                status = error.response.status_code
                if status in {401, 403}:
                    raise UserError(
                        f"Prefect at {self._url} refuses access ({status}): check "
                        "PREFECT_API_KEY, or PREFECT_API_AUTH_STRING"
                    ) from None
                if status < 500 and status not in {408, 429}:
                    text = error.response.text[:300]
                    raise UserError(f"Prefect at {self._url} refused ({status}): {text}") from error
                problem = f"answers {status}"
            except httpx.RequestError as error:
                problem = f"can't be reached ({type(error).__name__})"
                wait = 0.25  # it is starting: to ask costs nothing
            if not self._was_said:
                self._was_said = True
                self._say(f"waiting up to {START_SECONDS:g} s: Prefect at {self._url} {problem}")
            if time.monotonic() > deadline:
                raise UserError(
                    f"Prefect at {self._url} {problem}: start it (`linekeeper up`, or `prefect "
                    "server start`), or set PREFECT_API_URL"
                )
            await asyncio.sleep(wait)
            wait = min(wait * 2, 5.0)


def _as_it_was(
    wanted: project.Wanted, lost: prefect_settings.PrefectSettings | None
) -> project.Wanted:
    """A deployment with what an operator had set on it in the Prefect that is gone."""
    name = deployment_name(wanted.name)
    schedules = lost.schedules(name) if lost else None
    if lost is None or schedules is None:
        return wanted
    return as_it_was(wanted, lost.settings(name), schedules, lost.noted(name))


def deploy_command(
    *,
    reset: Annotated[
        bool, typer.Option("--reset", help="Put back what an operator changed.")
    ] = False,
) -> None:
    """Make Prefect's side: work pool, queues, blocks, deployments, automations.

    Makes what is missing, shows what an operator set differently and leaves it. Works against
    PREFECT_API_URL (a server, or Prefect Cloud), else against the server of `linekeeper up`.

    Examples:

      linekeeper deploy

      linekeeper deploy --reset
    """
    settings = Settings()
    asyncio.run(
        deploy(
            settings,
            reset=reset,
            console=Console(highlight=False, soft_wrap=True),
            beside_up=is_up(settings.home),
        )
    )
