"""Flow runs as Prefect keeps them: their states, the heartbeats of their processes, filters."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from prefect.client.schemas.objects import FlowRunPolicy, State, StateDetails, StateType
from prefect.input.run_input import keyset_from_base_key

from tests.simulation.loop import HOST, Host

BEAT_SECONDS = 30
"""How often the process of a run says that it is there: as `linekeeper up` sets it."""
_NAMES = UUID(int=0)
TYPES = {
    "scheduled": StateType.SCHEDULED, "pending": StateType.PENDING, "running": StateType.RUNNING,
    "suspended": StateType.PAUSED, "completed": StateType.COMPLETED, "failed": StateType.FAILED,
    "crashed": StateType.CRASHED,
}  # fmt: skip
OVER = frozenset({"completed", "failed", "crashed"})


def id_of(name: str) -> UUID:
    """The id of the flow and of the deployment called so."""
    return uuid5(_NAMES, name)


@dataclass
class SimRun:
    """One flow run."""

    id: UUID
    deployment: str
    name: str
    auto_scheduled: bool
    idempotency_key: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    state_word: str = "scheduled"  # those of `TYPES`
    message: str = ""
    state_name: str = ""
    inputs: dict[str, Any] = field(default_factory=dict)
    sent_at: dict[str, datetime] = field(default_factory=dict)
    waits_for: str = ""
    texts: dict[str, str] = field(default_factory=dict)
    """What its forms say, by the keys that Prefect gives them."""
    deployment_version: str | None = None
    start_time: datetime | None = None
    run_count: int = 0
    empirical_policy: FlowRunPolicy = field(default_factory=FlowRunPolicy)
    """Its `pause_keys`: Prefect does not count in `run_count` that a suspended run goes on."""
    made_at: datetime | None = None
    ended_at: datetime | None = None
    over: list[tuple[datetime, datetime]] = field(default_factory=list)
    """From when until when it seemed to be over, and then went on."""
    expected_start_time: datetime | None = None  # nobody here catches up for the others
    work_pool_name: str | None = None
    states: list[State[Any]] = field(default_factory=list)
    hosts: list[Host] = field(default_factory=list)
    """The processes that work on it, or did."""
    events: list[datetime] = field(default_factory=list)
    """When its processes said that they are there, by their own clocks."""
    heard_at: datetime | None = None
    moved_at: datetime | None = None
    """The true times of the last of those, and of its last change of state."""
    is_given_up: bool = False
    """Whether it was said already that nobody settles it."""

    @property
    def has_done_its_work(self) -> bool:
        """Whether its flow came to its end, red or green: not skipped, not by an exception."""
        if self.state_word == "failed":
            return bool(self.state_name)
        return self.state_word == "completed" and self.state_name != "Skipped"

    def lived(self, until: datetime) -> list[tuple[datetime, datetime]]:
        """When it was not over, as far as it was made by somebody."""
        if self.made_at is None:
            return []
        is_over = self.state_word in OVER and self.ended_at is not None
        begun = [self.made_at, *(again for _, again in self.over)]
        ended = [*(end for end, _ in self.over), self.ended_at if is_over else until]
        return list(zip(begun, ended, strict=True))

    @property
    def flow_id(self) -> UUID:
        """Which flow it is of."""
        return id_of(self.deployment)

    deployment_id = flow_id

    @property
    def state(self) -> State[Any]:
        """The state it is in."""
        return self.states[-1]

    @property
    def state_id(self) -> UUID:
        """Which of its states that is."""
        return self.state.id

    def move(self, word: str, at: datetime, name: str = "", message: str = "") -> None:
        """Put it into another state, `at` by the server's clock."""
        self.state_word, self.state_name, self.message = word, name, message
        self.states.append(
            State(
                id=UUID(int=len(self.states)), type=TYPES[word], name=name or word.capitalize(),
                message=message or None, timestamp=at, state_details=self._details(word),
            )
        )  # fmt: skip

    def _details(self, word: str) -> StateDetails:
        """Where the form of a run that waits is found."""
        keys = keyset_from_base_key(f"suspended-{self.waits_for}") if word == "suspended" else None
        return StateDetails(run_input_keyset=keys)


@contextmanager
def heart(run: SimRun, now: Callable[[], datetime], hears: Callable[[], bool]) -> Iterator[None]:
    """Let the process of the caller say again and again that it works on `run`, for the block.

    What it says while nobody `hears` it is lost.
    """
    loop, host = asyncio.get_running_loop(), HOST.get()
    assert host is not None
    timer: asyncio.TimerHandle | None = None

    def beat() -> None:
        nonlocal timer
        if host.dead:  # timers, other than tasks, outlive their process here
            return
        if hears() and not host.stalled:
            run.heard_at = now()
            run.events.append(now() + host.skew)
        timer = loop.call_later(BEAT_SECONDS, beat)

    beat()
    try:
        yield
    finally:
        if timer is not None:
            timer.cancel()


def filtered(runs: Iterable[SimRun], wanted: Any) -> list[SimRun]:
    """The runs that pass one of Prefect's filters; each is one of ours, and tagged so."""
    keys = getattr(wanted.idempotency_key, "any_", None)
    types = wanted.state and wanted.state.type and wanted.state.type.any_
    tags = wanted.tags and wanted.tags.any_
    ends = wanted.end_time
    after, before = (ends.after_, ends.before_) if ends else (None, None)
    return [
        run
        for run in runs
        if (keys is None or run.idempotency_key in keys)
        and (not types or run.state.type in types)
        and (not tags or set(tags) & set(run.tags))
        and (ends is None or run.state_word in OVER)
        and (after is None or run.state.timestamp > after)
        and (before is None or run.state.timestamp < before)
    ]


def of_deployments(runs: Iterable[SimRun], wanted: Any) -> list[SimRun]:
    """The runs of the deployments that pass one of Prefect's filters; all where there is none."""
    ids, names = (each and each.any_ for each in (wanted.id, wanted.name)) if wanted else ((), ())
    return [
        run
        for run in runs
        if (not ids or run.deployment_id in ids) and (not names or run.deployment in names)
    ]
