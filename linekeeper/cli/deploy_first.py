"""What `linekeeper up` runs once: `deploy`, as soon as the server answers, and a first sweep.

A process of its own: it imports Prefect and the flows while the server starts, and Prefect reads
its settings from the environment when it is imported.
"""

import asyncio
import sys
from typing import Annotated

import typer
from rich.console import Console

from linekeeper.garbage import importing

with importing():
    from linekeeper.cli.deploy import deploy
    from linekeeper.cli.errors import explain
    from linekeeper.orchestrator import RunRequest
    from linekeeper.settings import Settings
    from linekeeper.store import new_id
    from tasks.prefect_adapter.orchestrator import PrefectOrchestrator
    from tasks.prefect_adapter.project import SWEEP, Demo


def deploy_first(
    *,
    no_schedules: Annotated[bool, typer.Option("--no-schedules")] = False,
    sweep_seconds: Annotated[float | None, typer.Option()] = None,
    morning: Annotated[str, typer.Option(help="When the demo's digest comes.")] = "",
    sweep_now: Annotated[bool, typer.Option("--sweep-now")] = False,
) -> None:
    """Deploy; with `sweep_now` start a health-sweep."""
    demo = Demo(sweep_seconds, morning) if sweep_seconds is not None else None
    asyncio.run(_deploy(schedules_active=not no_schedules, demo=demo, sweep_now=sweep_now))


async def _deploy(*, schedules_active: bool, demo: Demo | None, sweep_now: bool) -> None:
    settings = Settings()
    await deploy(
        settings,
        reset=False,
        console=Console(highlight=False, soft_wrap=True),
        schedules_active=schedules_active,
        demo=demo,
    )
    if sweep_now:
        async with PrefectOrchestrator.open(settings) as orchestrator:
            await orchestrator.start_run(
                RunRequest(SWEEP, idempotency_key=f"up:{new_id()}", name="first sweep")
            )


if __name__ == "__main__":
    try:
        typer.run(deploy_first)
    except Exception as error:
        line = explain(error)
        if line is None:
            raise
        typer.echo(line)
        sys.exit(1)
