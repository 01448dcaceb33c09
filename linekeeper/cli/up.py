"""`linekeeper up`: everything on this machine, in the foreground."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Annotated

import typer

from linekeeper.cli.guards import alone_in, require_auth_or_loopback, require_free_port

if TYPE_CHECKING:
    from collections.abc import Mapping

    from linekeeper.cli.parts import PartsChoice
    from linekeeper.cli.progress import StartProgress
    from linekeeper.cli.supervisor import Supervisor
    from linekeeper.config import AppConfig
    from linekeeper.settings import Settings
    from sandbox import Settings as Sandbox

WORKER_SECONDS = 60.0
"""How long the start waits until Prefect knows of the worker that it started."""


def up_command(
    *,
    sandbox: Annotated[
        bool | None,
        typer.Option(
            "--sandbox/--no-sandbox",
            help=(
                "Start a sandbox: a Makini and a Slack on this machine. Default: only if no "
                "Makini is configured."
            ),
            show_default=False,
        ),
    ] = None,
    no_schedules: Annotated[
        bool, typer.Option("--no-schedules", help="Deploy with all schedules paused.")
    ] = False,
    connections: Annotated[
        int, typer.Option(min=0, help="How many connections the sandbox has.")
    ] = 24,
    scenario: Annotated[
        str | None,
        typer.Option(
            metavar="demo|quiet",
            help="demo: in the sandbox things go wrong and right again; asked for, with a night of "
            "quiet hours and its digest. Default: demo, without the night.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same sandbox.")] = 1,
) -> None:
    """Start everything on this machine: Prefect server, worker, consumer, receiver, sandbox.

    Prints one line starting with "ready" and stays in the foreground; Ctrl-C ends all of it.
    What the parts say is in LINEKEEPER_HOME/logs. With PREFECT_API_URL set, that Prefect is used.

    Examples:

      linekeeper up

      linekeeper up --no-sandbox

      linekeeper up --scenario demo

      linekeeper up --connections 200 --scenario quiet --no-schedules
    """
    from linekeeper.cli.parts import PartsChoice
    from linekeeper.settings import Settings
    from tasks.prefect_adapter.server import require_prefect_address

    if scenario not in (None, "demo", "quiet"):
        raise typer.BadParameter("it is demo or quiet", param_hint="--scenario")
    settings = Settings()
    choice = PartsChoice(
        sandbox,
        not no_schedules,
        connections,
        scenario or "demo",
        seed,
        night=scenario == "demo",
    )
    with alone_in(settings.home):
        if prefect := os.environ.get("PREFECT_API_URL"):
            require_prefect_address(prefect)
        else:
            require_auth_or_loopback(settings.prefect_host, os.environ)
            require_free_port(
                settings.prefect_host, settings.prefect_port, "PREFECT_PORT", "the Prefect server"
            )
        require_free_port(
            settings.receiver_host, settings.receiver_port, "RECEIVER_PORT", "the receiver"
        )
        asyncio.run(_run(settings, choice))


async def _run(settings: "Settings", choice: "PartsChoice") -> None:
    """Start, stay until SIGINT or SIGTERM, end all. Raises what kept it from starting."""
    from linekeeper.cli.first_sweep import before_it, is_listed, say_when_listed
    from linekeeper.cli.parts import environment
    from linekeeper.cli.progress import StartProgress, are_runs_under_way
    from linekeeper.cli.restarts import (
        notify_of_restart,
        restart_prefect_when_set_back,
        restart_what_hangs,
    )
    from linekeeper.cli.supervisor import Supervisor

    asked_to_end = asyncio.Event()

    def end() -> None:
        if asked_to_end.is_set():
            os._exit(130)  # asked twice: the reaper ends the children
        asked_to_end.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, end)
    progress = StartProgress()

    async def restarted(name: str, how: str) -> None:
        await notify_of_restart(settings, name, how, progress.line)

    async def is_busy() -> bool:
        return await are_runs_under_way(environment(settings, os.environ, None))

    logs = settings.home.resolve() / "logs"
    async with Supervisor(logs, progress.line, restarted) as supervisor:
        started = time.monotonic()
        starting = asyncio.create_task(_start(settings, choice, supervisor, progress))
        ending = asyncio.create_task(asked_to_end.wait())
        with progress.shown():
            await asyncio.wait({starting, ending}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            urls = " · ".join(f"{name} {url}" for name, url in starting.result().items())
            supervisor.starting = False
            is_new = not await is_listed(settings)
            if is_new:
                progress.line(before_it(schedules=choice.schedules))
            progress.good(f"ready in {time.monotonic() - started:.0f} s · {urls}")
            watching = [
                asyncio.create_task(restart_what_hangs(settings, supervisor)),
                asyncio.create_task(restart_prefect_when_set_back(supervisor, is_busy)),
            ]
            if is_new:
                watching.append(asyncio.create_task(say_when_listed(settings, progress.line)))
            await ending
            for task in watching:
                task.cancel()
        else:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
        progress.line("ending …")
    progress.line("ended")


async def _start(
    settings: "Settings", choice: "PartsChoice", supervisor: "Supervisor", progress: "StartProgress"
) -> dict[str, str]:
    """Start every part, side by side where the order doesn't matter; returns the URLs."""
    from linekeeper.cli import parts
    from linekeeper.cli.progress import answers, worker_online
    from linekeeper.clock import utcnow

    own_server = not os.environ.get("PREFECT_API_URL")
    first = parts.environment(settings, os.environ, None)
    async with asyncio.TaskGroup() as group:

        def begin(name: str, doing: Awaitable[None]) -> "asyncio.Task[None]":
            return group.create_task(progress.step(name, doing))

        if own_server:
            begin(
                "Prefect server",
                supervisor.start(parts.prefect_server(settings, first, answers)),
            )
        apps = await progress.step("database", _migrate(settings))
        box = night = None
        if parts.wants_sandbox(choice, settings, apps):
            box = parts.sandbox_settings(settings, choice)
            require_free_port(box.host, box.port, "SANDBOX_PORT", "the sandbox")
            night = parts.night(choice, settings, apps, now=utcnow())
        if night is not None:
            begins, morning = night
            settings = settings.model_copy(
                update={"quiet_hours": f"{begins:%H:%M}-{morning:%H:%M}"}
            )
            progress.line(
                f"demo: a night from {begins:%H:%M} to {morning:%H:%M} UTC (quiet hours in the "
                "block AlertPolicy), then the digest"
            )
        shared = parts.environment(settings, os.environ, box)
        _say_where_the_block_counts(shared.get("LINEKEEPER_MAKINI_API_URL"), apps, progress)
        if box is not None:
            begin("sandbox", _sandbox(settings, box, supervisor, shared))
        begin(
            "deployments",
            supervisor.run(
                parts.deployments(
                    shared,
                    schedules=choice.schedules,
                    sandbox=box is not None,
                    morning=night and night[1],
                )
            ),
        )
        begin("consumer", supervisor.start(parts.consumer(shared)))
        begin("receiver", supervisor.start(parts.receiver(settings, shared, answers)))
        begin("worker", supervisor.start(parts.worker(shared)))
    taken = worker_online(shared, settings.work_pool, seconds=WORKER_SECONDS)
    if not await progress.step("runs are taken", taken):
        progress.line(
            f"note: Prefect knows of no worker of the pool {settings.work_pool} that is online, so "
            "runs wait: see worker.log in LINEKEEPER_HOME/logs, and `linekeeper doctor`"
        )
    urls = {
        "Prefect UI": shared["PREFECT_API_URL"].removesuffix("/api"),
        "receiver": settings.local_receiver_url,
    }
    if box is not None:
        urls["sandbox"] = parts.sandbox_url(settings)
        urls["Slack page"] = f"{parts.sandbox_url(settings)}/slack"
    return urls


async def _sandbox(
    settings: "Settings", box: "Sandbox", supervisor: "Supervisor", shared: "Mapping[str, str]"
) -> None:
    """Start the sandbox; its customers are taken over with their owners where none are known."""
    import httpx
    from sqlmodel import select

    from linekeeper.cli import parts
    from linekeeper.cli.progress import answers
    from linekeeper.clock import utcnow
    from linekeeper.customers.importing import import_customers
    from linekeeper.store import Store
    from linekeeper.store.tables import Customer

    await supervisor.start(parts.sandbox(settings, box, shared, answers))
    if box.scenario != "demo":
        return
    async with Store.open(settings) as store:
        async with store.read() as session:
            if await session.scalar(select(Customer.id).limit(1)) is not None:
                return
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"{parts.sandbox_url(settings)}/customers.csv")
        await import_customers(store, answer.content, by="sandbox", now=utcnow())


async def _migrate(settings: "Settings") -> "dict[str, AppConfig]":
    """Bring the schema up to date; returns the apps the blocks' last copy has."""
    from linekeeper.store import Store
    from linekeeper.store.configuration import load_configuration
    from linekeeper.store.migrate import migrate

    async with Store.open(settings) as store:
        await migrate(store)
        return (await load_configuration(store, settings)).apps


def _say_where_the_block_counts(
    configured: str | None, apps: "dict[str, AppConfig]", progress: "StartProgress"
) -> None:
    """A block seeded by an earlier start wins over the environment of this one: say so."""
    block = apps.get("default")
    if block is not None and configured and block.api_url != configured.rstrip("/"):
        progress.line(
            f"note: the block MakiniApp default says {block.api_url}, this start {configured}: the "
            "block counts. `linekeeper deploy --reset` puts the settings' values into the blocks"
        )
