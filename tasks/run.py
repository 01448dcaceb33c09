"""What every run needs: its runtime, its name, whether it may work at all."""

import asyncio
import functools
import logging
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar
from uuid import UUID

import httpx
from prefect import get_client, get_run_logger
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.exceptions import PrefectException, PrefectHTTPStatusError
from prefect.settings import PREFECT_UI_URL
from prefect.states import Completed
from prefect.variables import Variable

from linekeeper import __version__
from linekeeper.clock import utcnow
from linekeeper.notify.channels import with_artifacts
from linekeeper.notify.view import CONNECTIONS, Links
from linekeeper.refusal import Refusal
from linekeeper.runtime import Runtime
from linekeeper.store.leases import HeldLease, LeaseLost, holding, is_held, next_holder
from linekeeper.text import NAME_LIMIT
from linekeeper.watch.queries import done, note_ended
from tasks.ending import EXPECTED, TakenOver
from tasks.late_runs import catch_up
from tasks.prefect_adapter.current import current_run
from tasks.prefect_adapter.names import PAUSED_VARIABLE, variable_name
from tasks.prefect_adapter.waiting_tags import without_waiting

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])


def _suspension_is_no_error(record: logging.LogRecord) -> bool:
    """Prefect logs the end of a run in every state but Completed as an error, a suspension too."""
    if record.levelno == logging.ERROR and "Finished in state Suspended" in record.getMessage():
        record.levelno, record.levelname = logging.INFO, logging.getLevelName(logging.INFO)
    return True


REFUSED = "Refused"
"""The state in which the run of a form with a mistake ends."""
logging.getLogger("prefect.flow_runs").addFilter(_suspension_is_no_error)
_runtime: ContextVar[Runtime] = ContextVar("linekeeper_runtime")


@asynccontextmanager
async def open_runtime() -> AsyncIterator[Runtime]:
    """The runtime of this run; the tasks called inside find it with `runtime()`."""
    with _terminated_by_cancelling():
        async with Runtime.open(kind="flow run") as opened:
            token = _runtime.set(opened)
            try:
                await _begin(opened)
                yield opened
                await _note_end(opened)
            except EXPECTED:
                await _note_end(opened)
                raise
            finally:
                _runtime.reset(token)


async def _begin(opened: Runtime) -> None:
    """Have events carry this run; say in the log its version and where all connections are."""
    run = current_run()
    if run is None:
        return
    opened.store.run_id = str(run.id)
    links = await with_artifacts(opened.store, Links(PREFECT_UI_URL.value()), [CONNECTIONS])
    version, page = run.deployment_version or __version__, links.artifact(CONNECTIONS)
    get_run_logger().info("Linekeeper %s · all connections: %s", version, page)


async def _note_end(opened: Runtime) -> None:
    """Keep that this run came to its own end: if it fails, that is because of what it found."""
    if (run := current_run()) is not None:
        await note_ended(opened.store, str(run.id))
        await _wait_for_nobody(run.id)


async def _wait_for_nobody(run_id: UUID) -> None:
    """Take `waiting:customer` and `waiting:us` off a run that is over: people filter by them."""
    try:
        async with get_client() as client:
            tags = (await client.read_flow_run(run_id)).tags
            kept = without_waiting(tags)
            if len(kept) < len(tags):
                await client.update_flow_run(run_id, tags=kept)
    except (httpx.HTTPError, PrefectHTTPStatusError) as error:
        get_run_logger().warning("The run keeps its tags: %s", type(error).__name__)


@contextmanager
def _terminated_by_cancelling() -> Iterator[None]:
    """Within the block SIGTERM cancels the run; Prefect's own handler is called after it.

    Prefect's handler raises wherever the process happens to be, and every task of the loop dies
    with it, also the one that stores a pair of tokens that Makini has just rotated.
    """
    handler, run = None, asyncio.current_task()
    if threading.current_thread() is threading.main_thread():
        handler = signal.getsignal(signal.SIGTERM)
    if run is None or not callable(handler):
        yield
        return
    loop = asyncio.get_running_loop()
    terminated = False

    def cancel(*_: object) -> None:
        nonlocal terminated
        terminated = True
        loop.call_soon_threadsafe(run.cancel)

    signal.signal(signal.SIGTERM, cancel)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)
        if terminated:
            handler(signal.SIGTERM, None)


def runtime() -> Runtime:
    """The runtime its flow opened."""
    return _runtime.get()


async def is_paused() -> bool:
    """Whether an operator set the variable `linekeeper_paused`."""
    return bool(await Variable.aget(variable_name(PAUSED_VARIABLE), default=False))


def paused() -> State[None]:
    """The ending of a run that does nothing while Linekeeper is paused."""
    return skipped(f"Paused: the variable {variable_name(PAUSED_VARIABLE)} is set")


def skipped(reason: str) -> State[None]:
    """A green ending for a run that had nothing to do."""
    return Completed(name="Skipped", message=reason)


def refused(field: str, wrong: object, enter: str, *, kept: str = "") -> State[None]:
    """A green ending for a form that can't be carried out: nothing was changed but what was `kept`.

    It says which field it was, what was wrong with it, and what to enter. Where `wrong` knows its
    fields itself, those count; the form's titles of them are shown.
    """
    faults = wrong.faults if isinstance(wrong, Refusal) else ((field, str(wrong)),)
    said = [f"{_title_of(name)}: {reason.strip()}" for name, reason in faults]
    first = f"Refused in part, kept: {kept}." if kept else "Refused, nothing was changed."
    message = " ".join(
        [first, *(text if text[-1] in ".!?" else f"{text}." for text in said), enter]
    )
    return Completed(name=REFUSED, message=message.strip())


async def call_refused() -> None:
    """Have the name of this run say so, unless it does."""
    if (run := current_run()) is None:
        return
    async with get_client() as client:
        name = (await client.read_flow_run(run.id)).name
        if "refused" not in name:
            await client.update_flow_run(run.id, name=f"{name[:NAME_LIMIT]} · refused")


def _title_of(field: str) -> str:
    """What the form of this run calls the parameter `field`."""
    context = FlowRunContext.get()
    fields = context.flow.parameters.properties if context and context.flow else {}
    return str(fields.get(field, {}).get("title") or field.replace("_", " ").capitalize())


def by_hand() -> bool:
    """Whether somebody started this run, rather than its schedule."""
    run = current_run()
    return run is None or not run.auto_scheduled


@asynccontextmanager
async def only_one(name: str) -> AsyncIterator[HeldLease | None]:
    """Hold the lease `name`: a run started by hand waits for it, a scheduled one gets None.

    A run that waits says so in its log and its name. One that loses the lease raises `TakenOver`.
    """
    opened = runtime()
    mine: HeldLease | None = None
    run = current_run()
    run_id = str(run.id) if run else None
    owner = f"{opened.owner} · run {run_id}" if run_id else opened.owner
    take = functools.partial(holding, opened.store, name, owner, run_id=run_id)
    try:
        async with take(wait=False) as held:
            if held is not None or not by_hand():
                mine = held
                if held is not None and run is not None:
                    await catch_up(run, now=utcnow())
                yield held
                return
        get_run_logger().warning("Another run holds the lease %s: this one waits for it", name)
        called = called_now() or name
        await rename(f"{called} · waits for another run")
        async with take(wait=True) as held:
            await rename(called)
            mine = held
            yield held
    except LeaseLost:
        if mine is None or await is_held(opened.store, mine):
            raise  # it was another lease
        raise TakenOver(await _taken_by(opened, mine)) from None


async def _taken_by(opened: Runtime, mine: HeldLease) -> str | None:
    """Who has, or had, the lease after us, in words."""
    holder = await next_holder(opened.store, mine)
    if holder is None:
        return None
    owner, run_id = holder
    if run_id is None:
        return f"The process {owner}"
    try:
        async with get_client() as client:
            run = await client.read_flow_run(UUID(run_id))
    except (httpx.HTTPError, PrefectException, ValueError):
        return f"The run {run_id}"
    began = f", which began at {run.start_time:%H:%M} UTC," if run.start_time else ""
    return f"The run {run.name!r} ({run_id}){began}"


def called_now() -> str:
    """What this run is called now; empty outside a run."""
    run = current_run()
    return run.name if run else ""


async def completed(work: str) -> None:
    """Note that this run did its `work`, whatever it found; a run that is skipped did not."""
    await done(runtime().store, work)


async def rename(name: str) -> None:
    """Call this run `name`, so that the Runs page shows how it went.

    Of its parts between `·`, one that is blank, as a field of a form may be, is left out.
    """
    if (run := current_run()) is None:
        return
    name = " · ".join(part.strip() for part in name.split("·") if part.strip())
    async with get_client() as client:
        await client.update_flow_run(run.id, name=name)
