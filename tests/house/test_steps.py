"""Every step of a flow has our own decorator, so that what holds for all is said once."""

import importlib
import pkgutil

from prefect.cache_policies import NO_CACHE
from prefect.tasks import Task

import tasks


def test_no_step_keeps_a_result_or_takes_one_from_a_cache() -> None:
    found = {
        f"{module.name}.{name}": step
        for module in pkgutil.iter_modules(tasks.__path__, "tasks.")
        for name, step in vars(importlib.import_module(module.name)).items()
        if isinstance(step, Task)
    }
    assert len(found) > 30
    wrong = {
        name: (step.cache_policy, step.persist_result)
        for name, step in found.items()
        if step.cache_policy != NO_CACHE or step.persist_result is not False
    }
    assert wrong == {}
