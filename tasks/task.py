"""The decorator of every step: what holds for all is said once; and how calls of Makini try again.

No result is kept or taken from a cache: the database says what is done, and a step repeated has to
look again. `prefect.toml` could say the same, but a process worker runs flows in a folder of its
own, where it isn't read; the decorator holds wherever a flow is started.
"""

from collections.abc import Callable
from typing import Any, ParamSpec, TypedDict, TypeVar, Unpack

import prefect
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import RetryConditionCallable, Task, exponential_backoff

from linekeeper.makini import MakiniError

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


class RetryPolicy(TypedDict, total=False):
    """How a step tries again."""

    retries: int
    retry_delay_seconds: Any
    retry_jitter_factor: float
    retry_condition_fn: RetryConditionCallable
    timeout_seconds: float


class Options(RetryPolicy, total=False):
    """What a step may say of itself."""

    name: str
    task_run_name: str


def task(
    **options: Unpack[Options],
) -> Callable[[Callable[_Parameters, _Result]], Task[_Parameters, _Result]]:
    """`@task(name=…)`: a step of a flow."""
    return prefect.task(cache_policy=NO_CACHE, persist_result=False, **options)


class StillFailing(Exception):
    """Some could not be done; the task tries those again."""


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
