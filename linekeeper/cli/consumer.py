"""`linekeeper consumer`: the service that always runs, in the foreground."""

import asyncio
import signal

import typer

REMEMBER_EVERY = 300.0
"""Seconds between two looks at what operators set in the Prefect UI."""
SIGHT_EVERY = 15.0
"""Seconds between two looks at the workers."""
LOST_RUNS_EVERY = 30.0
"""Seconds between two looks for runs whose process is gone."""
SCHEDULES_EVERY = 60.0
"""Seconds between two looks for schedules of which no run is planned that is due."""
PAGES_EVERY = 10.0
"""Seconds between two looks for pages that don't show what is so."""


def consumer_command() -> None:
    """Apply webhooks, deliver messages, copy settings of blocks; with or without Prefect.

    Foreground; several may run side by side. SIGTERM or Ctrl-C ends it within five seconds.
    """
    from linekeeper.event_loop import run

    run(_run())


async def _run() -> None:
    from linekeeper.alive import reporting_alive
    from linekeeper.consumer.loops import ServiceLoop
    from linekeeper.consumer.service import run_consumer
    from linekeeper.logs import set_up
    from linekeeper.runtime import Runtime
    from linekeeper.settings import Settings
    from linekeeper.store.usable import has_come
    from linekeeper.watch.alerts import reported, settle_reported
    from linekeeper.watch.queries import note_prefect
    from tasks.prefect_adapter.orchestrator import PrefectOrchestrator

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    settings = Settings()
    set_up(settings.log_format)
    if not await has_come(settings, stop):
        return
    async with (
        Runtime.open(settings, kind="consumer") as rt,
        PrefectOrchestrator.open(settings) as orchestrator,
        reporting_alive(settings.alive_file),
    ):
        typer.echo(f"consumer ready, with Prefect at {orchestrator.url}")

        async def remember() -> bool:
            await orchestrator.remember(rt.store)
            return False

        async def look_at_prefect() -> bool:
            alerts = await reported(rt.store)
            sight = await orchestrator.look(alerts)
            await note_prefect(rt.store, sight.workers, paused=sight.paused)
            await settle_reported(
                rt.store,
                alerts,
                states=sight.runs,
                finished=sight.finished,
                went_on=sight.went_on,
                pool_ready=sight.pool_ready,
                late=sight.late,
            )
            return False

        async def look_after_lost_runs() -> bool:
            await orchestrator.look_after_lost_runs()
            return False

        async def look_at_schedules() -> bool:
            await orchestrator.plan_again()
            return False

        async def keep_pages() -> bool:
            return await orchestrator.keep_pages(rt)

        await run_consumer(
            rt,
            orchestrator,
            find_links=orchestrator.find_links,
            stop=stop,
            also=[
                ServiceLoop("what is set in Prefect", remember, every=REMEMBER_EVERY),
                ServiceLoop("workers", look_at_prefect, every=SIGHT_EVERY),
                ServiceLoop("lost runs", look_after_lost_runs, every=LOST_RUNS_EVERY),
                ServiceLoop("schedules", look_at_schedules, every=SCHEDULES_EVERY),
                ServiceLoop("pages", keep_pages, every=PAGES_EVERY),
            ],
        )
