"""What is left out on PostgreSQL is named in a file: nothing there that is gone, or called anew."""

from tests.house.test_shared_peers import TESTS
from tests.longest import SECONDS
from tests.repetitions import BEFORE_THE_DATABASE, ELSEWHERE, is_run_whole


def test_what_is_left_out_on_postgresql_is_there_and_not_about_the_database() -> None:
    names = ELSEWHERE.read_text().split()
    assert names == sorted(set(names))
    for name in names:
        path, _, function = name.partition("::")
        assert f"def {function}(" in (TESTS / path).read_text(), name
        assert not is_run_whole(name), name


def test_what_is_decided_before_a_database_is_asked_is_there() -> None:
    for path, functions in BEFORE_THE_DATABASE.items():
        for function in functions:
            assert f"def {function}(" in (TESTS / path).read_text(), function


def test_what_begins_first_is_there() -> None:
    for name in SECONDS:
        path, _, function = name.partition("::")
        assert f"def {function}(" in (TESTS / path).read_text(), name
