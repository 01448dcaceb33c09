"""What the core asks of Prefect. `linekeeper.cli` implements it; nothing here imports Prefect."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from linekeeper.config import AlertPolicy, AppConfig, HealthPolicy, MailConfig, SlackConfig


class OrchestratorUnavailable(Exception):
    """Prefect did not answer, or answered 5xx; try again later."""


@dataclass(frozen=True, slots=True)
class FeedEvent:
    """One entry of the Event Feed. `id` is stable, so that a repeat is harmless."""

    id: str
    name: str
    """`linekeeper.connection.<health>`, `linekeeper.incident.opened`, … (INTERFACE "Events")."""
    occurred: datetime
    resource: Mapping[str, str]
    related: Sequence[Mapping[str, str]] = ()
    payload: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A run to start: once for its `idempotency_key`, whoever asks."""

    deployment: str
    """The deployment's name; its flow has the same."""
    idempotency_key: str
    name: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    tags: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Blocks:
    """What operators filled in; None or empty where nothing was."""

    apps: Sequence[AppConfig] = ()
    slack: SlackConfig | None = None
    slack_channels: Mapping[str, SlackConfig] = field(default_factory=dict)
    """The channels other than `default`, by name."""
    policy: HealthPolicy | None = None
    alerts: AlertPolicy | None = None
    mail: MailConfig | None = None


class Orchestrator(Protocol):
    """Each method raises `OrchestratorUnavailable` when Prefect can't be reached."""

    async def start_run(self, run: RunRequest) -> str:
        """Start `run`, or find the one its key started; returns the run's id."""
        ...

    async def resume_run(self, run_id: str, answer: Mapping[str, Any] | None = None) -> None:
        """Resume a suspended run; harmless if it isn't waiting any more."""
        ...

    async def wake_run(self, run_id: str) -> bool:
        """Have a suspended run go on; False if it has to be asked again.

        That is so while it works: what it has read may be older than what it is woken for. A run
        that ended or is gone is not woken, and needs not be asked again.
        """
        ...

    async def emit(self, events: Sequence[FeedEvent]) -> None: ...

    async def read_blocks(self) -> Blocks: ...
