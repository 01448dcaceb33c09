"""How tasks that talk to Makini try again: seen by operators, only where it can help."""

from typing import Any, TypedDict

from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import RetryConditionCallable, Task, exponential_backoff

from linekeeper.makini import MakiniError


class StillFailing(Exception):
    """Some could not be done; the task tries those again."""


class RetryPolicy(TypedDict):
    """Settings of a task."""

    retries: int
    retry_delay_seconds: Any
    retry_jitter_factor: float
    retry_condition_fn: RetryConditionCallable
    timeout_seconds: float


def retry_policy(*, retries: int, first_wait: float, minutes: float) -> RetryPolicy:
    """`@task(**retry_policy(…))`: waits `first_wait` seconds, then ever longer.

    A try may take `minutes`.
    """
    return {
        "retries": retries,
        "retry_delay_seconds": exponential_backoff(backoff_factor=first_wait),
        "retry_jitter_factor": 0.5,
        "retry_condition_fn": is_transient,
        "timeout_seconds": minutes * 60,
    }


async def is_transient(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether trying again can help."""
    error = await state.aresult(raise_on_failure=False)
    return isinstance(error, StillFailing) or (isinstance(error, MakiniError) and error.retryable)
