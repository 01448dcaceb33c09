"""Rules of the house that import-linter can't see (DESIGN "One incident, one outbox")."""

import ast
from collections.abc import Collection, Iterator
from pathlib import Path

from linekeeper.incidents.kinds import KINDS

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("linekeeper", "flows", "tasks", "blocks")
_WRITES = frozenset({"insert", "update", "delete", "insert_ignore", "insert_or_update"})


def modules(*words: str) -> Iterator[tuple[str, ast.Module]]:
    """Every module of ours but the migrations, with its path; only those with one of `words`."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            text = path.read_text()
            is_asked_for = not words or any(word in text for word in words)
            if is_asked_for and "migrations" not in path.parts:
                yield path.relative_to(ROOT).as_posix(), ast.parse(text)


def names_of(node: ast.expr) -> set[str]:
    return {found.id for found in ast.walk(node) if isinstance(found, ast.Name)}


def writers(tables: Collection[str]) -> dict[str, set[str]]:
    """Of each of `tables` the modules that insert, change, delete or construct its rows."""
    found: dict[str, set[str]] = {table: set() for table in tables}
    for path, tree in modules(*tables):
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            called = node.func.id if isinstance(node.func, ast.Name) else ""
            named = set[str]().union(*(names_of(arg) for arg in node.args if called in _WRITES))
            for table in tables:
                if called == table or table in named:
                    found[table].add(path)
    return found


_STATE = frozenset({"resolved_at", "acknowledged_at", "acknowledged_by", "left_at"})
"""Columns of incidents and members that a model's attribute must not set past the lifecycle."""


def test_nobody_sets_an_incidents_state_by_its_attributes() -> None:
    found = [
        f"{path}:{target.lineno} {target.attr}"
        for path, tree in modules(*_STATE)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign)
        for target in ast.walk(node)
        if isinstance(target, ast.Attribute)
        and isinstance(target.ctx, ast.Store)
        and target.attr in _STATE
    ]
    assert found == [], "\n".join(found)


def test_only_the_lifecycle_writes_incidents() -> None:
    tables = ("Incident", "IncidentConnection", "IncidentEntry")
    assert writers(tables) == {table: {"linekeeper/incidents/lifecycle.py"} for table in tables}


def test_a_topic_has_one_owner() -> None:
    owners: dict[str, list[str]] = {}
    for path, tree in modules("TOPIC"):
        for node in tree.body:
            if (
                isinstance(node, ast.Assign)
                and [target.id for target in node.targets if isinstance(target, ast.Name)]
                == ["TOPIC"]
                and isinstance(node.value, ast.Constant)
            ):
                owners.setdefault(str(node.value.value), []).append(path)
    assert {topic: paths for topic, paths in owners.items() if len(paths) > 1} == {}
    assert {topic for kind in KINDS.values() for topic in kind.topics} == owners.keys()
