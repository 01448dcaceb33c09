"""Prefect's part in a universe: tasks run as their bodies, the API is a dictionary.

The flows are the real ones. What is replaced is Prefect's own: the task engine (retries,
time-outs, failed states), the run context, the client, variables, and suspending.
"""

import asyncio
import contextvars
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import httpx
import prefect
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import FailedRun, ObjectNotFound
from prefect.task_engine import TaskRunTimeoutError
from prefect.tasks import Task
from prefect.utilities.annotations import quote
from prefect.variables import Variable

import flows.advance_implementations
import flows.check_connection
import flows.digest
import flows.health_sweep
import flows.housekeeping
import flows.process_webhooks
import flows.reconcile
import flows.reconnect
import flows.refresh_tokens
from linekeeper import clock
from linekeeper.notify.view import Links
from linekeeper.orchestrator import Blocks, FeedEvent, OrchestratorUnavailable, RunRequest
from tests.simulation.flow_runs import OVER, SimRun, filtered, heart, id_of, of_deployments
from tests.simulation.loop import VirtualLoop

FLOWS: dict[str, Any] = {
    "advance-implementations": flows.advance_implementations.advance_implementations,
    "check-connection": flows.check_connection.check_connection,
    "digest": flows.digest.digest,
    "health-sweep": flows.health_sweep.health_sweep,
    "housekeeping": flows.housekeeping.housekeeping,
    "process-webhooks": flows.process_webhooks.process_webhooks,
    "reconcile": flows.reconcile.reconcile,
    "reconnect": flows.reconnect.reconnect,
    "refresh-tokens": flows.refresh_tokens.refresh_tokens,
}
_run: contextvars.ContextVar[Any] = contextvars.ContextVar("sim_flow_run", default=None)
_TASK_RUN = UUID(int=0)
"""Task runs are not told apart here."""
_task: contextvars.ContextVar[Any] = contextvars.ContextVar("sim_task_run", default=None)


class Suspended(BaseException):
    """A run that waits for people: it leaves its process."""


class SimPrefect:
    """The server, its API and its orchestrator; `down` answers nothing."""

    def __init__(self, now: Callable[[], datetime], new_id: Callable[[], str]) -> None:
        self._now = now
        self._new_id = new_id
        self.down = False
        self.loses_answers: Callable[[], bool] = lambda: False
        self.blocks = Blocks()
        self.runs: dict[UUID, SimRun] = {}
        self.events: dict[str, FeedEvent] = {}
        self.artifacts: dict[str, Any] = {}
        self.written: set[str] = set()
        """All that was ever written: artifacts, and the names and tags of runs."""
        self.queue: list[SimRun] = []
        self.queued = asyncio.Event()
        self.api_url = httpx.URL("http://prefect.sim/api")
        self.server_now = now
        """What the server's machine believes."""
        self.settled: Callable[[SimRun, str, datetime], None] = lambda *_: None
        """Called where a run was forced into another state, with the one before and since when."""
        self.changes = 0
        """How often runs have changed: who has looked at them needs no look until the next."""

    def enqueue(self, run: SimRun, message: str = "") -> None:
        """Let a worker take it."""
        self._move(run, "scheduled", message=message)
        self.runs[run.id] = run
        self.queue.append(run)
        self.queued.set()

    def taken(self, run: SimRun) -> None:
        """A worker has taken it, and makes a process for it."""
        self._move(run, "pending", "Submitting")

    # --- the orchestrator of the core

    def _answer(self) -> None:
        if self.down:
            raise OrchestratorUnavailable("Prefect does not answer")

    async def start_run(self, run: RunRequest) -> str:
        await asyncio.sleep(0.02)
        self._answer()
        for known in self.runs.values():
            if known.idempotency_key == run.idempotency_key:
                return str(known.id)
        made = SimRun(
            UUID(self._new_id()), run.deployment, run.name or run.deployment, False,
            run.idempotency_key, dict(run.parameters), list(run.tags),
        )  # fmt: skip
        made.made_at = self._now()
        self.enqueue(made)
        if self.loses_answers():
            raise OrchestratorUnavailable("the answer was lost")
        return str(made.id)

    async def resume_run(self, run_id: str, answer: Mapping[str, Any] | None = None) -> None:
        await asyncio.sleep(0.02)
        self._answer()
        run = self.runs.get(UUID(run_id))
        if run is not None and run.state_word == "suspended":
            run.inputs[run.waits_for] = dict(answer or {})
            run.sent_at[run.waits_for] = self.server_now()
            self.enqueue(run)

    async def wake_run(self, run_id: str) -> bool:
        await asyncio.sleep(0.02)
        self._answer()
        run = self.runs.get(UUID(run_id))
        if run is None or run.state_word in OVER:
            return True
        if run.state_word != "suspended":
            return False
        await self.resume_run(run_id)
        return True

    async def emit(self, events: Sequence[FeedEvent]) -> None:
        await asyncio.sleep(0.02)
        self._answer()
        for event in events:
            self.events[event.id] = event

    async def read_blocks(self) -> Blocks:
        await asyncio.sleep(0.01)
        self._answer()
        return self.blocks

    async def find_links(self) -> Links:
        """As the consumer asks for them."""
        self._answer()
        return Links()

    # --- the client that tasks use

    async def update_flow_run(self, run_id: UUID, *, name: str | None = None,
                              tags: Sequence[str] | None = None, **_: Any) -> None:  # fmt: skip
        run = self.runs.get(run_id)
        self.changes += 1
        self.written.add(f"{name} {tags}")
        if run is not None:
            run.name = name or run.name
            run.tags = list(tags) if tags is not None else run.tags

    async def read_flow_run(self, run_id: UUID) -> SimRun:
        if run_id not in self.runs:
            raise ObjectNotFound(KeyError(run_id))
        return self.runs[run_id]

    async def read_flow_run_input(self, run_id: UUID, key: str) -> str:
        return self.runs[run_id].texts[key]

    async def filter_flow_run_input(
        self, run_id: UUID, key_prefix: str, limit: int, exclude_keys: set[str]
    ) -> list[Any]:
        """What a form was sent with, if it was: nothing else is asked for like this."""
        run, key = self.runs[run_id], key_prefix.removeprefix("suspended-")
        key = key.removesuffix("-response")
        if key not in run.inputs:
            return []
        return [SimpleNamespace(decoded_value=run.inputs[key], created=run.sent_at[key])]

    async def delete_flow_run_input(self, run_id: UUID, key: str) -> None:
        del self.runs[run_id].texts[key]

    async def create_flow_run_input(self, run_id: UUID, key: str, value: str) -> None:
        self.runs[run_id].texts[key] = value

    async def read_flow_runs(
        self, *, flow_run_filter: Any, deployment_filter: Any = None, offset: int = 0,
        limit: int | None = None, **_: Any,
    ) -> list[SimRun]:  # fmt: skip
        found = of_deployments(filtered(self.runs.values(), flow_run_filter), deployment_filter)
        return found[offset : None if limit is None else offset + limit]

    async def delete_flow_run(self, run_id: UUID) -> None:
        del self.runs[run_id]

    async def read_flows(self, *, offset: int = 0, **_: Any) -> list[Any]:
        return [] if offset else [SimpleNamespace(id=id_of(name), name=name) for name in FLOWS]

    async def read_flow_run_states(self, run_id: UUID) -> list[State[Any]]:
        return list(self.runs[run_id].states)

    async def set_flow_run_state(self, run_id: UUID, state: State[Any], *, force: bool) -> None:
        """Only by force: nobody here proposes."""
        assert force
        run = self.runs[run_id]
        before, since = run.state_word, run.moved_at or self._now()
        if state.is_scheduled():
            self.enqueue(run, message=state.message or "")
        else:
            self._move(run, state.type.value.lower(), state.name or "", state.message or "")
        self.settled(run, before, since)

    async def read_deployments(self, **_: Any) -> list[Any]:
        return []

    async def read_deployment_by_name(self, name: str) -> Any:
        raise ObjectNotFound(KeyError(name))

    async def create_artifact(self, artifact: Any) -> Any:
        """A link in a run's own list of what it wrote, which is not told apart here."""
        self.written.add(repr(artifact))
        return SimpleNamespace(id=UUID(self._new_id()))

    async def read_task_runs(self, **_: Any) -> list[Any]:
        """Steps that were drawn are not kept: a run that goes on draws them anew."""
        return []

    async def request(
        self, method: str, path: str, *, json: dict[str, Any], path_params: Any = None
    ) -> Any:
        """What pages are written with: `POST /artifacts/`, `PATCH /artifacts/{id}`."""
        if path == "/events":
            self.written.add(repr(json))
            return None
        if path == "/events/filter":
            return _events_in(self.runs.values(), json["filter"])
        self.written.add(repr(json))
        if method == "POST":
            known = SimpleNamespace(
                id=UUID(self._new_id()), created=self._now(), updated=self._now(), **json
            )
            self.artifacts[known.key] = known
            return SimpleNamespace(json=lambda: {"id": str(known.id)})
        for known in self.artifacts.values():
            if str(known.id) == path_params["id"]:
                known.data, known.description = json["data"], json["description"]
                known.updated = self._now()
        return None

    async def read_artifacts(self, *, artifact_filter: Any, **_: Any) -> list[Any]:
        if artifact_filter.key is None:  # those of a run, which are not told apart here
            return []
        keys = artifact_filter.key.any_
        return [known for key, known in self.artifacts.items() if key in keys]

    # --- runs

    async def run_flow(self, run: SimRun) -> None:
        """Run a flow's real body in the process of the caller, to its end or until it suspends.

        Where two processes have taken one run, the end that is said last stands, as at Prefect;
        a run that was suspended by one of them ends by the other.
        """
        self._move(run, "running")
        run.start_time, run.run_count = run.start_time or self._now(), run.run_count + 1
        token = _run.set(run)
        try:
            with heart(run, self._now, lambda: not self.down):
                state = await FLOWS[run.deployment].fn(**run.parameters)
        except Suspended:
            self._move(run, "suspended")
        except asyncio.CancelledError:
            if run.state_word not in ("completed", "failed"):
                self._move(run, "crashed")
            raise
        except Exception as error:
            self._move(run, "failed", message=f"{type(error).__name__}: {error}")
        else:
            failed = isinstance(state, State) and state.is_failed()
            message, name = getattr(state, "message", ""), getattr(state, "name", "")
            self._move(run, "failed" if failed else "completed", name or "", message or "")
        finally:
            _run.reset(token)

    def _move(self, run: SimRun, word: str, name: str = "", message: str = "") -> None:
        self.changes += 1
        run.move(word, self.server_now(), name, message)
        run.moved_at = self._now()
        if word in OVER:
            run.ended_at = run.moved_at


class Connected:
    """The client of a process that lives long: it finds the server there, or away."""

    def __init__(self, server: SimPrefect) -> None:
        self._server = server

    def __getattr__(self, name: str) -> Any:
        if name == "api_url":
            return self._server.api_url

        async def call(*args: Any, **options: Any) -> Any:
            if self._server.down:
                raise _unreachable()
            return await getattr(self._server, name)(*args, **options)

        return call


def _events_in(runs: Iterable[SimRun], wanted: dict[str, Any]) -> Any:
    """The answer to a question for the heartbeats of one run."""
    [resource] = wanted["resource"]["id"]
    occurred = wanted.get("occurred", {})
    since = datetime.fromisoformat(occurred.get("since", "0001-01-01T00:00:00+00:00"))
    until = datetime.fromisoformat(occurred.get("until", "9999-01-01T00:00:00+00:00"))
    events = [
        at
        for run in runs
        if resource == f"prefect.flow-run.{run.id}"
        for at in run.events
        if since <= at <= until
    ]
    return SimpleNamespace(json=lambda: {"events": events[:1], "total": len(events)})


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
        run = _run.get()
        task_run = SimpleNamespace(
            id=_TASK_RUN, flow_run_id=run.id if run else None, run_count=attempt
        )
        token = _task.set(SimpleNamespace(task_run=task_run))
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
            _task.reset(token)
    raise AssertionError("unreachable")


def _delay(task: Any, attempt: int) -> float:
    delay = task.retry_delay_seconds
    if callable(delay):
        delay = delay(task.retries)
    if isinstance(delay, (list, tuple)):
        delay = delay[min(attempt, len(delay)) - 1] if delay else 0
    return clock.uniform(1.0, 1.3) * float(delay or 0)


async def _suspend(wait_for_input: Any = None, timeout: float = 0, key: str = "") -> None:
    run = _run.get()
    if key in run.inputs:
        return
    if run.state_word not in ("running", "suspended"):  # another process has ended or resumed it
        raise RuntimeError(f"Flow run cannot be suspended: it is {run.state_word}")
    run.waits_for = key
    if isinstance(words := getattr(wait_for_input, "_description", None), str):
        run.texts[f"suspended-{key}-description"] = json.dumps(words)
    raise Suspended


_PATCHED_MODULES = [
    module
    for name, module in sorted(__import__("sys").modules.items())
    if name.startswith(("flows.", "tasks.")) or name in ("flows", "tasks")
]


@contextmanager
def installed(server: SimPrefect) -> Iterator[None]:
    """Prefect's engine and client replaced, for the block."""
    undo: list[tuple[Any, str, Any]] = []

    def put(owner: Any, name: str, value: Any) -> None:
        undo.append((owner, name, owner.__dict__[name]))
        setattr(owner, name, value)

    @asynccontextmanager
    async def get_client(*_: Any, **__: Any) -> Any:
        if server.down:
            raise _unreachable()
        yield server

    async def variable(_name: str, default: Any = None) -> Any:
        return default

    logger = logging.getLogger("linekeeper.flows")
    for module in _PATCHED_MODULES:
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
    put(TaskRunContext, "get", staticmethod(_task.get)) if "get" in TaskRunContext.__dict__ else (
        _shadow(TaskRunContext, _task.get, undo)
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
    run = _run.get()
    return None if run is None else SimpleNamespace(flow_run=run, run_results={})


def _unreachable() -> Exception:
    return httpx.ConnectError("Prefect does not answer")


__all__ = ["FLOWS", "SimPrefect", "VirtualLoop", "installed", "prefect"]
