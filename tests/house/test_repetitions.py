"""What runs on PostgreSQL too is named in a file: nothing there that is gone, or called anew.

And what `make test` leaves to `make repeats` names what holds its promise."""

import ast
import re
from pathlib import Path

from tests.house.test_shared_peers import TESTS
from tests.longest import SECONDS
from tests.on_postgresql import AS_TEXT, TWO_FORMS
from tests.repetitions import IN_TEST, ON_BOTH, ON_BOTH_AGAIN, has_none, named_in

CODE = TESTS.parent / "linekeeper"


def test_what_runs_on_postgresql_too_is_there() -> None:
    names = named_in(ON_BOTH) + named_in(ON_BOTH_AGAIN)
    assert len(names) == len(set(names))
    for name in names:
        path, _, function = name.partition("::")
        assert (TESTS / path).exists(), name
        assert not function or f"def {function}(" in (TESTS / path).read_text(), name


def test_what_repeats_names_a_test_that_make_test_runs() -> None:
    for file in TESTS.rglob("test_*.py"):
        if "mark.repeats" not in (text := file.read_text()):
            continue
        for node in ast.walk(ast.parse(text)):
            if not (isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.repeats"):
                continue
            assert node.args, f"{file.name}: what does it repeat?"
            for named in map(ast.literal_eval, node.args):
                path, _, function = named.partition("::")
                assert function in run_by_make_test(TESTS / path), f"{file.name} repeats {named}"


def run_by_make_test(module: Path) -> set[str]:
    """Its tests that `make test` runs, with some of their values at least."""
    return {
        node.name
        for node in ast.parse(module.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not has_none(module, IN_TEST)
        and not any(is_left_out(each) for each in node.decorator_list)
    }


def is_left_out(decorator: ast.expr) -> bool:
    """Whether it marks the whole test."""
    return re.match(r"pytest\.mark\.(soak|repeats)\b", ast.unparse(decorator)) is not None


def test_sqlites_own_words_stand_only_where_postgresql_has_others() -> None:
    for word, places in TWO_FORMS.items():
        found = {
            str(file.relative_to(CODE))
            for file in CODE.rglob("*.py")
            if word in file.read_text() and "versions" not in file.parts
        }
        assert found == set(places), word
        assert all("is_sqlite" in (CODE / place).read_text() for place in places), word


def test_sql_is_written_as_text_only_where_each_database_has_its_own() -> None:
    found = set()
    for file in CODE.rglob("*.py"):
        source = file.read_text()
        if "versions" in file.parts or "from sqlalchemy import" not in source:
            continue
        for node in ast.walk(ast.parse(source)):
            is_from = isinstance(node, ast.ImportFrom) and node.module == "sqlalchemy"
            if is_from and any(name.name == "text" for name in node.names):
                found.add(str(file.relative_to(CODE)))
    assert found == set(AS_TEXT), "its tests run on PostgreSQL, too: tests/postgresql.txt"


def test_what_begins_first_is_there() -> None:
    for name in SECONDS:
        path, _, function = name.partition("::")
        assert f"def {function}(" in (TESTS / path).read_text(), name
