"""What the code imports is declared: nothing runs only because another library brings it along."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = {"linekeeper", "flows", "tasks", "blocks", "sandbox"}
TYPES = {"_typeshed"}
"""They are there while types are checked only."""


def declared(file: Path) -> set[str]:
    project = tomllib.loads(file.read_text())["project"]
    return {
        re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower().replace("_", "-")
        for requirement in project["dependencies"]
    }


def imported(folder: Path) -> Iterator[tuple[str, str]]:
    """The first part of each module that is imported, with the file that does it."""
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Import(names=names):
                    modules = [alias.name for alias in names]
                case ast.ImportFrom(module=str(module), level=0):
                    modules = [module]
                case _:
                    continue
            for module in modules:
                yield module.split(".")[0], str(file.relative_to(ROOT))


@pytest.mark.parametrize(
    ("folders", "project"),
    [(sorted(OURS - {"sandbox"}), "pyproject.toml"), (["sandbox"], "sandbox/pyproject.toml")],
    ids=["linekeeper", "sandbox"],
)
def test_every_library_that_is_imported_is_declared(folders: list[str], project: str) -> None:
    known, providers = declared(ROOT / project), packages_distributions()
    missing: dict[str, set[str]] = {}
    for folder in folders:
        for module, file in imported(ROOT / folder):
            if module in OURS | TYPES or module in sys.stdlib_module_names:
                continue
            names = {name.lower().replace("_", "-") for name in providers.get(module, [module])}
            if not names & known:
                missing.setdefault(module, set()).add(file)
    assert not missing
