"""The decorator of every step: Prefect's, with what holds for all of ours said once.

No result is kept or taken from a cache: the database says what is done, and a step repeated has to
look again. `prefect.toml` could say the same, but a process worker runs flows in a folder of its
own, where it isn't read; the decorator holds wherever a flow is started.
"""

from collections.abc import Callable
from typing import Any, ParamSpec, TypedDict, TypeVar, Unpack

import prefect
from prefect.cache_policies import NO_CACHE
from prefect.tasks import RetryConditionCallable, Task

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


class Options(TypedDict, total=False):
    """What a step may say of itself."""

    name: str
    task_run_name: str
    retries: int
    retry_delay_seconds: Any
    retry_jitter_factor: float
    retry_condition_fn: RetryConditionCallable
    timeout_seconds: float


def task(
    **options: Unpack[Options],
) -> Callable[[Callable[_Parameters, _Result]], Task[_Parameters, _Result]]:
    """`@task(name=…)`: a step of a flow."""
    return prefect.task(cache_policy=NO_CACHE, persist_result=False, **options)
