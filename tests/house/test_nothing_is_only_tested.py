"""A part that is tested but never called is the worst kind of green."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.house.test_who_writes_what import ROOT, modules

_READ_BY_NAME = ("prefect.yaml", "pyproject.toml")
"""Files that name functions and modules of ours."""
_ASKED_FOR = frozenset(
    {
        *("model_config", "settings_customise_sources"),  # by pydantic
        *("_block_type_name", "_block_type_slug", "_description", "task_run_name"),  # by Prefect
        *("impl", "cache_ok", "load_dialect_impl", "process_bind_param"),  # by SQLAlchemy
        *("process_result_value", "bind_processor", "result_processor"),
        *("_proxied", "_async_soft_close"),
        "max_count",  # by the standard library's e-mail
    }
)
"""What a framework reads or calls by its name."""
_KEPT = {
    "Kind.mails_customer": "docs/incidents.md has it",
    "Outbox.claimed_until": "a column that older code beside ours asks for: migration 0061",
    "Implementation.planned_p80": "the same; and it takes no null",
    "Succession.listed_at": "the same",
}


@cache
def parsed() -> tuple[tuple[str, ast.Module], ...]:
    return tuple(modules())


@cache
def names_read() -> frozenset[str]:
    """Every name that our code reads, or says in a text; and those in templates and settings."""
    found: set[str] = set()
    for _, tree in parsed():
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                found.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                found.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.update(node.value.replace(":", ".").split("."))
    pages = [*(ROOT / "linekeeper").rglob("*.html"), *(ROOT / name for name in _READ_BY_NAME)]
    return frozenset(found.union(*(re.findall(r"\w+", page.read_text()) for page in pages)))


def members(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """The methods, fields and constants of the classes of a module: `Class.name`, and `name`.

    But those of answers, which programs read.
    """
    for owner in ast.walk(tree):
        if not isinstance(owner, ast.ClassDef):
            continue
        if any(ast.unparse(base).endswith("Answer") for base in owner.bases):
            continue
        for node in owner.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                how = {ast.unparse(decorator) for decorator in node.decorator_list}
                if how <= {"property", "staticmethod", "classmethod"}:  # not one of a framework's
                    yield f"{owner.name}.{node.name}", node.name
            targets = node.targets if isinstance(node, ast.Assign) else []
            targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
            for target in targets:
                if isinstance(target, ast.Name):
                    yield f"{owner.name}.{target.id}", target.id


def test_every_public_function_and_class_is_used_by_something_that_runs() -> None:
    unused = sorted(
        f"{path}:{node.name}"
        for path, tree in parsed()
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and node.name not in names_read()
        and not node.name.startswith("_")
        and not node.name.endswith(("_command", "_migration"))
    )
    assert unused == [], "\n".join(unused)


def test_every_member_of_a_class_is_read_by_something_that_runs() -> None:
    read = names_read() | _ASKED_FOR
    unread = {
        whole: path
        for path, tree in parsed()
        for whole, name in members(tree)
        if name not in read and not name.startswith("__")
    }
    assert unread.keys() == _KEPT.keys(), unread


def test_a_field_that_is_only_set_is_seen() -> None:
    seen = members(ast.parse("class A:\n    b: int\n    def c(self): self.b = 1\n"))
    assert list(seen) == [("A.b", "b"), ("A.c", "c")]


def test_every_module_is_imported_by_something_that_runs() -> None:
    imported: set[str] = set()
    known: set[str] = set()
    for path, tree in parsed():
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
