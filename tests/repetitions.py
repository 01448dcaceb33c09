"""What `make test` leaves to `make soak` of what is promised on both databases.

Each promise is tested on SQLite. On PostgreSQL `make test` runs all that is about a database itself
(its schema, locks, claims, order, what a killed process leaves), and of each other module every
third test, beginning with the first, and that with the first of its cases: the same queries run in
the others. Of those in turn, and of what is about a database by its queries alone (`MEASURED`), it
leaves out what runs no statement there that no other runs (`repetitions.txt`, which
`tests.statements` writes), and of all what is decided before a database is asked
(`BEFORE_THE_DATABASE`). All are run there by `make soak`, and by whoever asks for it:
`python -m pytest tests/notify`.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

TESTS = "tests/"
ONE_IN = 3
DATABASE = (
    "access/test_renew",
    "access/test_writers",
    "backup/",
    "consumer/",
    "health/test_report_queries",
    "health/test_sweep_killed",
    "implementation/test_service",
    "inbox/",
    "incidents/",
    "notify/test_deliver",
    "notify/test_evaluate",
    "receiver/test_storage_trouble",
    "receiver/test_webhooks",
    "reconcile/test_claims",
    "reconcile/test_feed",
    "reconcile/test_kills",
    "reconcile/test_restart",
    "reconcile/test_together",
    "reconcile/test_upsert",
    "reconnect/test_disconnect",
    "reconnect/test_kills",
    "reconnect/test_trace",
    "store/",
    "watch/",
)
"""Where all is run on both, by the beginnings of paths."""
MEASURED = (
    "access/test_renew",
    "consumer/test_delivery",
    "consumer/test_slack_socket",
    "implementation/test_service",
    "incidents/",
    "inbox/process/test_forward",
    "inbox/process/test_process_",
    "inbox/process/test_refused_entity",
    "inbox/process/test_replay",
    "inbox/process/test_shared_keys",
    "inbox/process/test_watch",
    "notify/test_deliver",
    "notify/test_evaluate",
    "watch/test_alerts",
    "watch/test_standing",
)
"""Of these, where all is but what `repetitions.txt` names: no text that a database could refuse."""
BEFORE_THE_DATABASE = {
    "backup/test_backup.py": (
        "test_a_part_of_a_file_is_refused",
        "test_a_file_that_lost_its_last_lines_or_had_one_changed_is_refused",
        "test_what_is_no_backup_is_refused",
    ),
    "receiver/test_webhooks.py": (
        "test_hex_and_base64_of_any_of_the_secrets_count",
        "test_standard_webhooks_are_verified_where_the_app_says_so",
        "test_an_app_without_secrets_takes_nothing",
        "test_what_is_no_route_says_so",
        "test_a_body_is_taken_up_to_the_limit_and_not_beyond",
        "test_a_hundred_megabytes_are_refused_without_being_read",
        "test_a_gzip_bomb_is_not_unpacked",
        "test_a_chunked_body_is_read_to_its_end",
        "test_a_body_that_never_ends_is_given_up",
        "test_what_breaks_off_leaves_nothing",
        "test_what_is_no_http_is_a_bad_request",
        "test_a_head_that_is_too_long_or_too_slow_is_cut_off",
    ),
}
"""What is decided of a file, or of a request, before a database is asked: the same on both."""
ELSEWHERE = Path(__file__).with_name("repetitions.txt")
_IS_ELSEWHERE = frozenset(ELSEWHERE.read_text().split() if "EVERY_THIRD" not in os.environ else ())
_GIVEN_WITH_MARKS = type(pytest.param())


def leave_to_soak(items: Iterable[pytest.Item]) -> None:
    """Mark what is a repetition on PostgreSQL; what runs on PostgreSQL alone is none."""
    on: dict[str, set[str]] = {"sqlite": set(), "postgresql": set()}
    found = []
    for item in items:
        callspec = getattr(item, "callspec", None)
        engine = callspec.params.get("engine") if callspec is not None else None
        if engine in on:
            on[engine].add(_function(item))
            found.append((engine, item))
    for engine, item in found:
        is_twice = _function(item) in on["sqlite"]
        if engine == "postgresql" and is_twice and _is_repetition(item):
            item.add_marker(pytest.mark.soak)


def is_run_whole(path: str) -> bool:
    """Whether no test there is left out on PostgreSQL, whatever statements it runs."""
    return path.startswith(DATABASE) and not path.startswith(MEASURED)


def _function(item: pytest.Item) -> str:
    return item.nodeid.partition("[")[0]


def _is_repetition(item: pytest.Item) -> bool:
    path = item.nodeid.partition("::")[0].removeprefix(TESTS)
    if item.get_closest_marker("soak"):
        return False
    function = _function(item)
    if function.removeprefix(TESTS) in _IS_ELSEWHERE:
        return True
    if function.rpartition("::")[2] in BEFORE_THE_DATABASE.get(path, ()):
        return True
    if path.startswith(DATABASE):
        return False
    assert isinstance(item, pytest.Function)
    # All of the module's, also where only some were asked for: a test is always in the same place.
    tests = [name for name in vars(item.module) if name.startswith("test_")]
    if item.originalname not in tests:  # one that something else made: it has no place among them
        return False
    return tests.index(item.originalname) % ONE_IN != 0 or not _is_first_case(item)


def _is_first_case(item: pytest.Function) -> bool:
    """Whether each of its parameters but the engine has the first of its values."""
    for mark in item.iter_markers("parametrize"):
        names = mark.args[0]
        names = [name.strip() for name in names.split(",")] if isinstance(names, str) else names
        values = list(mark.args[1])
        if "engine" in names or not values:
            continue
        first = values[0]
        if isinstance(first, _GIVEN_WITH_MARKS):
            first = first.values
        elif len(names) == 1:
            first = (first,)
        if [item.callspec.params[name] for name in names] != list(first):
            return False
    return True
