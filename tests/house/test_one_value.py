"""A constant has one value: the second of one name would be what all before it get as well."""

import ast
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("linekeeper", "sandbox", "flows", "tasks", "blocks", "tests", "benchmarks")


def given_twice(source: str) -> set[str]:
    """The names that a module gives a value to more than once, one after the other."""
    names: Counter[str] = Counter()
    for statement in ast.parse(source).body:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        if isinstance(statement, ast.AnnAssign) and statement.value is not None:
            targets = [statement.target]
        for target in targets:
            names.update(
                each.id
                for each in ast.walk(target)
                if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
            )
    return {name for name, times in names.items() if times > 1}


def test_no_module_gives_a_name_two_values() -> None:
    twice = {
        str(path.relative_to(ROOT)): names
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        if (names := given_twice(path.read_text()))
    }
    assert twice == {}


def test_a_second_value_is_seen() -> None:
    assert given_twice("A = 1\nB: int = 2\nA, C = 3, 4\n") == {"A"}
