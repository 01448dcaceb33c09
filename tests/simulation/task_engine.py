"""Prefect's engine in a universe: tasks run as their bodies.

What is replaced is Prefect's own: retries, time-outs and failed states of tasks, the run context,
the client, variables, and suspending.
"""

import asyncio
import contextvars
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import FailedRun
from prefect.task_engine import TaskRunTimeoutError
from prefect.tasks import Task
from prefect.utilities.annotations import quote
from prefect.variables import Variable

from linekeeper import clock

if TYPE_CHECKING:
    from tests.simulation.prefect import SimPrefect

RUN: contextvars.ContextVar[Any] = contextvars.ContextVar("sim_flow_run", default=None)
"""The run that works in this context."""
_TASK_RUN = UUID(int=0)
"""Task runs are not told apart here."""
_TASK: contextvars.ContextVar[Any] = contextvars.ContextVar("sim_task_run", default=None)


class Suspended(BaseException):
    """A run that waits for people: it leaves its process."""


class _FakeState:
    def __init__(self, error: BaseException) -> None:
        self._error = error

    async def aresult(self, raise_on_failure: bool = True) -> Any:
        return self._error


class _TaskState:
    """How a task ended: as much of Prefect's state as is asked for."""

    def __init__(self, result: Any = None, error: Exception | None = None) -> None:
        self.result, self.error = result, error
        self.message, self.name = str(error or ""), "Failed" if error else "Completed"
        self.state_details = SimpleNamespace(flow_run_id=None, task_run_id=None)

    def is_failed(self) -> bool:
        return self.error is not None

    def is_completed(self) -> bool:
        return self.error is None

    def is_crashed(self) -> bool:
        return False

    async def aresult(self, *, raise_on_failure: bool = True) -> Any:
        if self.error is None:
            return self.result
        if raise_on_failure:
            raise self.error
        return self.error


async def _run_task(task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A call of a task; what it waits for has ended already."""
    kwargs.pop("wait_for", None)
    if not kwargs.pop("return_state", False):
        return await _tried(task, args, kwargs)
    try:
        return _TaskState(await _tried(task, args, kwargs))
    except Exception as error:
        return _TaskState(error=error)


async def _tried(task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    given = [arg.unquote() if isinstance(arg, quote) else arg for arg in args]
    for attempt in range(1, (task.retries or 0) + 2):
        run = RUN.get()
        task_run = SimpleNamespace(
            id=_TASK_RUN, flow_run_id=run.id if run else None, run_count=attempt
        )
        token = _TASK.set(SimpleNamespace(task_run=task_run))
        try:
            timeout = task.timeout_seconds
            try:
                async with asyncio.timeout(timeout):
                    result = await task.fn(*given, **kwargs)
            except TimeoutError as error:
                if not timeout:
                    raise
                raise TaskRunTimeoutError(str(error)) from error
        except Exception as error:
            wants = task.retry_condition_fn
            if attempt > (task.retries or 0) or (
                wants is not None and not await wants(task, None, _FakeState(error))
            ):
                raise
            await asyncio.sleep(_delay(task, attempt))
        else:
            if isinstance(result, State) and result.is_failed():
                raise FailedRun(result.message)
            return result
        finally:
            _TASK.reset(token)
    raise AssertionError("unreachable")


def _delay(task: Any, attempt: int) -> float:
    delay = task.retry_delay_seconds
    if callable(delay):
        delay = delay(task.retries)
    if isinstance(delay, (list, tuple)):
        delay = delay[min(attempt, len(delay)) - 1] if delay else 0
    return clock.uniform(1.0, 1.3) * float(delay or 0)


async def _suspend(wait_for_input: Any = None, timeout: float = 0, key: str = "") -> None:
    run = RUN.get()
    if key in run.inputs:
        return
    if run.state_word not in ("running", "suspended"):  # another process has ended or resumed it
        raise RuntimeError(f"Flow run cannot be suspended: it is {run.state_word}")
    run.waits_for = key
    if isinstance(words := getattr(wait_for_input, "_description", None), str):
        run.texts[f"suspended-{key}-description"] = json.dumps(words)
    run.empirical_policy.pause_keys.add(key)
    raise Suspended


@contextmanager
def installed(server: "SimPrefect") -> Iterator[None]:
    """Prefect's engine and client replaced, for the block."""
    undo: list[tuple[Any, str, Any]] = []

    def put(owner: Any, name: str, value: Any) -> None:
        undo.append((owner, name, owner.__dict__[name]))
        setattr(owner, name, value)

    @asynccontextmanager
    async def get_client(*_: Any, **__: Any) -> Any:
        if server.down:
            raise unreachable()
        yield server

    async def variable(_name: str, default: Any = None) -> Any:
        return default

    logger = logging.getLogger("linekeeper.flows")
    ours = [name for name in sorted(sys.modules) if name.partition(".")[0] in ("flows", "tasks")]
    for module in map(sys.modules.__getitem__, ours):
        for name, value in (
            ("get_client", get_client),
            ("get_run_logger", lambda: logger),
            ("asuspend_flow_run", _suspend),
        ):
            if name in module.__dict__:
                put(module, name, value)
    put(Task, "__call__", lambda self, *args, **kwargs: _run_task(self, args, kwargs))
    put(Variable, "aget", staticmethod(variable))
    put(
        FlowRunContext, "get", staticmethod(_flow_context)
    ) if "get" in FlowRunContext.__dict__ else (_shadow(FlowRunContext, _flow_context, undo))
    put(TaskRunContext, "get", staticmethod(_TASK.get)) if "get" in TaskRunContext.__dict__ else (
        _shadow(TaskRunContext, _TASK.get, undo)
    )
    try:
        yield
    finally:
        for owner, name, value in reversed(undo):
            if value is _ABSENT:
                with suppress(AttributeError):
                    delattr(owner, name)
            else:
                setattr(owner, name, value)


_ABSENT = object()


def _shadow(owner: Any, value: Any, undo: list[tuple[Any, str, Any]]) -> None:
    undo.append((owner, "get", _ABSENT))
    owner.get = staticmethod(value)


def _flow_context() -> Any:
    run = RUN.get()
    return None if run is None else SimpleNamespace(flow_run=run, run_results={})


def unreachable() -> Exception:
    """What a client meets while the server is away."""
    return httpx.ConnectError("Prefect does not answer")
