"""Every step of a flow has our own decorator, so that what holds for all is said once."""

import ast
import importlib
import pkgutil

from prefect.cache_policies import NO_CACHE
from prefect.tasks import Task

import tasks
from tests.house.test_who_writes_what import ROOT


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


def test_every_flow_ends_by_plain_words() -> None:
    """`form` has what keeps a run from its work be its message, and not an exception."""
    decorators = {
        f"{path.stem}.{node.name}": [ast.unparse(decorator) for decorator in node.decorator_list]
        for path in (ROOT / "flows").glob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef)
    }
    flows = {name: said for name, said in decorators.items() if any("flow(" in d for d in said)}
    assert len(flows) > 25
    assert [name for name, said in flows.items() if said[-1] != "form"] == []
