"""Prefect's server in a universe: its API is a dictionary, and the flows are the real ones."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import httpx
from prefect.client.schemas.objects import State
from prefect.exceptions import ObjectNotFound

import flows.advance_implementations
import flows.check_connection
import flows.digest
import flows.health_sweep
import flows.housekeeping
import flows.process_webhooks
import flows.reconcile
import flows.reconnect
import flows.refresh_tokens
from linekeeper.notify.view import Links
from linekeeper.orchestrator import Blocks, FeedEvent, OrchestratorUnavailable, RunRequest
from tests.simulation.flow_runs import OVER, SimRun, filtered, heart, id_of, of_deployments
from tests.simulation.task_engine import RUN, Suspended, unreachable

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
        run.start_time = run.start_time or self._now()
        run.run_count += not run.empirical_policy.pause_keys
        token = RUN.set(run)
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
            RUN.reset(token)

    def _move(self, run: SimRun, word: str, name: str = "", message: str = "") -> None:
        self.changes += 1
        if run.state_word in OVER and word not in OVER and run.ended_at is not None:
            run.over.append((run.ended_at, self._now()))
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
                raise unreachable()
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
