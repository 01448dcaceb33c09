"""A part that is tested but never called is the worst kind of green."""

import ast
from collections import Counter
from pathlib import Path

from tests.house.test_who_writes_what import ROOT, modules

_READ_BY_NAME = ("prefect.yaml", "pyproject.toml")
"""Files that name functions and modules of ours."""


def test_every_public_function_and_class_is_used_by_something_that_runs() -> None:
    used: Counter[str] = Counter()
    defined: list[tuple[str, str]] = []
    for path, tree in modules():
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not (
                node.name.startswith("_")
            ):
                defined.append((path, node.name))
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                used[node.id] += 1
            elif isinstance(node, ast.Attribute):
                used[node.attr] += 1
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                used.update(node.value.replace(":", ".").split("."))
    named = " ".join((ROOT / name).read_text() for name in _READ_BY_NAME)
    unused = sorted(
        f"{path}:{name}"
        for path, name in defined
        if not used[name] and name not in named and not name.endswith(("_command", "_migration"))
    )
    assert unused == [], "\n".join(unused)


def test_every_module_is_imported_by_something_that_runs() -> None:
    imported: set[str] = set()
    known: set[str] = set()
    for path, tree in modules():
        module = Path(path).with_suffix("").as_posix().replace("/", ".")
        known.add(module)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                package = node.module
                if node.level:
                    parent = module.split(".")[: -node.level]
                    package = ".".join([*parent, node.module])
                imported.add(package)
                imported |= {f"{package}.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                parent = module.split(".")[: -node.level]
                imported |= {".".join([*parent, alias.name]) for alias in node.names}
            elif isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
    entries = ("flows.", "linekeeper.cli.")  # by name: prefect.yaml, and the table of commands
    unreachable = sorted(
        module
        for module in known - imported
        if not module.startswith(entries) and not module.endswith(("__init__", "__main__"))
    )
    assert unreachable == []
