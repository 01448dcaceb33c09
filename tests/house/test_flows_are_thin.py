"""Flows and tasks hold what Prefect is for; what a page says belongs to the core."""

import ast
import re

from tests.house.test_who_writes_what import ROOT

_MARKDOWN = re.compile(r"\*\*\S|\]\(|\|\s?-{3}|^#{1,6} |^- ", re.MULTILINE)
"""Bold, a link, the rule of a table, a heading, a list."""


def _modules() -> list[tuple[str, ast.Module]]:
    paths = [path for layer in ("flows", "tasks") for path in sorted((ROOT / layer).rglob("*.py"))]
    assert len(paths) > 40
    return [(path.relative_to(ROOT).as_posix(), ast.parse(path.read_text())) for path in paths]


def _docstrings(tree: ast.Module) -> list[ast.expr]:
    return [
        node.value
        for parent in ast.walk(tree)
        if isinstance(parent, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        for node in parent.body
        if isinstance(node, ast.Expr)
    ]


def test_flows_and_tasks_build_no_markdown() -> None:
    found = [
        f"{path}:{node.lineno} {node.value[:60]!r}"
        for path, tree in _modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node not in _docstrings(tree)
        and _MARKDOWN.search(node.value)
    ]
    assert found == [], "\n".join(found)
