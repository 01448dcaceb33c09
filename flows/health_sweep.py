"""Check every connection: list, probe what is due, conclude, notify."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from prefect.task_engine import TaskRunTimeoutError
from prefect.utilities.annotations import quote

from flows.form import form
from linekeeper.clock import utcnow
from linekeeper.config import AppConfig
from linekeeper.customers.adopt import Adoption
from linekeeper.inbox.unrouted import route_again
from linekeeper.incidents.news import Findings, News, Since, find_news, mark_reported, since
from linekeeper.makini import ErrorKind, MakiniError
from linekeeper.reconcile.budget import watch_budget
from linekeeper.runtime import Runtime
from linekeeper.sweep.app import close_removed, list_failed
from linekeeper.sweep.batch import ProbeBatch
from linekeeper.sweep.sweep import due, note_left_out
from linekeeper.sweep.webhooks import watch_stream
from linekeeper.text import sentences
from linekeeper.views.tags import tagged
from linekeeper.watch.answers import watch_answers
from linekeeper.watch.service import watch as watch_parts
from tasks.graph import attempt, follow, show_in_trouble
from tasks.health import list_connections, probe_connections
from tasks.heartbeat import heartbeat
from tasks.notify import NotDelivered, notify
from tasks.reconnect_runs import watch_runs
from tasks.report import (
    report_all_connections,
    report_connections,
    report_fleet,
)
from tasks.run import (
    completed,
    is_paused,
    only_one,
    open_runtime,
    paused,
    rename,
    skipped,
)

MOST_NAMED = 50
"""Failed task runs a sweep makes for connections in trouble; the rest is in the artifact."""
_NEWS_SAID = 10
"""So many of them are in the message of the run."""

BATCHES_AT_ONCE = 2
"""One is probed while another is written; the calls in flight are the client's to limit."""


@dataclass(slots=True)
class Sweep:
    """How the sweep of one app went."""

    app: str
    adopted: int = 0
    trouble: str | None = None
    """Why its work could not be done."""
    notes: list[str] = field(default_factory=list)
    due: int = 0
    """Connections that were to be probed, also those left to a later sweep."""
    left_out: int = 0
    paused: int = 0
    """Makini asked for a pause of their calls: nothing was learned of them."""
    listed: State[Adoption] | None = None
    probed: list[tuple[Sequence[str], State[ProbeBatch]]] = field(default_factory=list)
    """The members of each batch, and how it ended."""

    @property
    def ends(self) -> list[State[Any]]:
        """What comes after the work on the app comes after these."""
        listed = [] if self.listed is None else [self.listed]
        return [state for _, state in self.probed] or listed


@flow(name="health-sweep", flow_run_name="sweep", retries=0)
@form
async def health_sweep() -> State[None]:
    """Look at every connection, open and close incidents, notify who should know.

    Ends `Failed` when something is new or worse, when an incident was not acknowledged for four
    hours, or when the work could not be done; `Skipped` where another sweep is running.
    """
    if await is_paused():
        return paused()
    async with open_runtime() as rt, only_one("health-sweep") as held:
        if held is None:
            await rename("sweep · skipped")
            return skipped("Another sweep is still running; this one had nothing to do")
        return await _sweep(rt)


async def _sweep(rt: Runtime) -> State[None]:
    started = utcnow()
    configuration = await rt.configuration()
    if not configuration.apps:
        await rename("sweep · no app")
        return Failed(
            message="No Makini app is configured: fill in a MakiniApp block, or set "
            "LINEKEEPER_MAKINI_CLIENT_ID, and run doctor"
        )
    for app in await close_removed(rt, now=started):
        get_run_logger().info("app %s is not in the settings any more: its incidents end", app)
    sweeps = await asyncio.gather(
        *(_sweep_app(rt, app, started) for app in configuration.apps.values())
    )
    if any(sweep.adopted for sweep in sweeps):  # a webhook may have come before its connection
        await route_again(rt.store, now=utcnow())
    await watch_stream(rt, utcnow())
    await watch_budget(rt, now=utcnow())
    await watch_parts(rt)
    await watch_answers(rt)
    findings = await find_news(rt.store, policy=configuration.policy, now=utcnow())
    before = [state for sweep in sweeps for state in sweep.ends]
    troubled = await _name_troubled(rt, findings.news[:MOST_NAMED], sweeps)
    await mark_reported(rt.store, findings.news, now=utcnow())
    await watch_runs()
    done = await since(rt.store, started)
    named = [news.connection_id for news in findings.news if news.connection_id]
    changed = list(dict.fromkeys([*named, *done.changed]))
    before = troubled or before
    if changed:
        _, pages = await follow(report_connections, changed[:MOST_NAMED], before=before)
        before = [pages]
    if changed or any(sweep.adopted for sweep in sweeps):
        _, fleet = await follow(report_fleet, before=before)
        _, everything = await follow(report_all_connections, before=[fleet])
        before = [everything]
    if done.ordering_keys:
        with suppress(NotDelivered):  # it stays in the outbox, and the consumer tries on
            await follow(notify, done.ordering_keys, before=[*before])
    return await _conclusion(rt, sweeps, findings, done)


async def _sweep_app(rt: Runtime, app: AppConfig, started: datetime) -> Sweep:
    sweep = Sweep(app.name)
    logger = get_run_logger()
    try:
        adoption = await _list(sweep, app, started)
        sweep.adopted = len(adoption.new) + len(adoption.changed)
    except MakiniError as error:
        sweep.trouble = f"app {app.name}: the list failed: {error}"
        await list_failed(rt.store, app, error, now=utcnow())
    policy = (await rt.configuration()).policy
    work = await due(rt, app, policy, now=started)
    sweep.due, sweep.left_out = len(work.ids) + work.left_out, work.left_out
    await note_left_out(rt, app.name, work)
    if work.left_out:
        note = (
            f"{len(work.ids)} of {sweep.due} due were probed: the budget of "
            f"{app.per_minute} calls a minute allows no more between two sweeps"
        )
        sweep.notes.append(note)
        logger.warning("%s: %s", app.name, note)
    side_by_side = asyncio.Semaphore(BATCHES_AT_ONCE)

    async def probe(number: int, ids: Sequence[str]) -> ProbeBatch:
        async with side_by_side:
            # Quoted, as Prefect would look at each id for the result of another task.
            state = await attempt(
                probe_connections, app.name, number, quote(ids), started, before=[sweep.listed]
            )
            sweep.probed.append((ids, state))
            try:
                batch: ProbeBatch = await state.aresult()
            except TaskRunTimeoutError:  # what had answered is written
                return ProbeBatch(skipped=len(ids), trouble=f"batch {number} took too long")
            return batch

    batches = [probe(number, ids) for number, ids in enumerate(work.batches, start=1)]
    for batch in await asyncio.gather(*batches):
        if batch.trouble and sweep.trouble is None:
            sweep.trouble = f"app {app.name}: {batch.skipped} not probed: {batch.trouble}"
        if not batch.trouble:
            sweep.paused += batch.skipped
    if sweep.paused:
        sweep.notes.append(f"{sweep.paused} not probed: Makini asked for a pause of their calls")
    return sweep


async def _name_troubled(
    rt: Runtime, news: Sequence[News], sweeps: Sequence[Sweep]
) -> list[State[Any]]:
    """A failed task run for each, after the batch in which it was probed, else after the lists."""
    lists = [sweep.listed for sweep in sweeps if sweep.listed is not None]
    batch_of = {
        connection: state for sweep in sweeps for ids, state in sweep.probed for connection in ids
    }
    named = [item.connection_id for item in news if item.connection_id]
    about = await tagged(rt.store, named)
    return [
        await show_in_trouble(
            item.name,
            item.sentence,
            about.get(item.connection_id or ""),
            before=[batch] if (batch := batch_of.get(item.connection_id or "")) else lists,
        )
        for item in news
    ]


async def _list(sweep: Sweep, app: AppConfig, started: datetime) -> Adoption:
    """The app's list, read. Raises `MakiniError`, also where the task took longer than it may."""
    sweep.listed = await attempt(list_connections, app.name, started)
    try:
        adoption: Adoption = await sweep.listed.aresult()
        return adoption
    except TaskRunTimeoutError as error:
        minutes = (list_connections.timeout_seconds or 0) / 60
        message = f"the list was not read in {minutes:.0f} min"
        raise MakiniError(ErrorKind.timeout, message, app=app.name) from error


def _said(findings: Findings, done: Since, sweeps: Sequence[Sweep]) -> str:
    """What was found; nothing found of connections that nobody asked is no sign of health."""
    nothing = not findings.news and not findings.known and not findings.suppressed
    unasked = any(sweep.trouble or sweep.paused or sweep.left_out for sweep in sweeps)
    is_partial = not done.checked or bool(done.listed) or unasked
    return "no trouble known" if nothing and is_partial else findings.summary


def _looked(done: Since, sweeps: Sequence[Sweep]) -> str:
    """How many were asked, and of how many there is only the list's word."""
    nothing_due = not done.checked and not any(sweep.due or sweep.trouble for sweep in sweeps)
    looked = "nothing was due" if nothing_due else f"{done.checked} checked"
    return looked + (f", {done.listed} judged by Makini's list alone" if done.listed else "")


async def _conclusion(
    rt: Runtime, sweeps: list[Sweep], findings: Findings, done: Since
) -> State[None]:
    await completed("sweep")
    troubles = [sweep.trouble for sweep in sweeps if sweep.trouble]
    said = _said(findings, done, sweeps)
    summary = f"{_looked(done, sweeps)}, {said}"
    notes = "".join(
        f"; app {sweep.app}: {note}" if len(sweeps) > 1 else f"; {note}"
        for sweep in sweeps
        for note in sweep.notes
    )
    if troubles:
        await rename(f"sweep · could not do its work, {said}")
        news = sentences((each.sentence for each in findings.news), _NEWS_SAID)
        return Failed(message="; ".join(filter(None, [f"{'; '.join(troubles)} ({summary})", news])))
    await heartbeat(rt.settings.heartbeat_url)
    await rename(f"sweep · {said}")
    if findings.news:
        news = sentences((each.sentence for each in findings.news), _NEWS_SAID)
        return Failed(message=f"{summary}: {news}{notes}")
    return Completed(message=summary + notes)
