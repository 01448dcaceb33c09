"""What counts as known to Linekeeper: what a process was told that lived to store it."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from tests.simulation.heard import STATUS, Evidence
from tests.simulation.loop import Host
from tests.simulation.makini.answers import Answer
from tests.simulation.net import Request

BEGINS = datetime(2026, 3, 2, 6, tzinfo=UTC)
RECORD = "/api/eam/assets"
CONNECTION: Any = SimpleNamespace(key="k", pairs=[])


class HeardCase:
    """Processes are told something; then somebody is mailed."""

    def __init__(self) -> None:
        self.at = BEGINS
        truth = SimpleNamespace(owner_of=lambda *_: CONNECTION)
        universe: Any = SimpleNamespace(
            now=lambda: self.at, truth=truth, people=SimpleNamespace(kinds=set()), begins=BEGINS
        )
        self._evidence = Evidence(universe)

    def answer(self, minutes: float, path: str, body: bytes = b"{}") -> Host:
        """Makini answers a process of its own."""
        host, self.at = Host("worker"), BEGINS + timedelta(minutes=minutes)
        request = Request("GET", "makini.sim", path, "", {"authorization": "Bearer t"}, b"")
        self._evidence.answered(request, Answer(200, body, {}), None, host)
        return host

    def contradicts(self, minutes: float) -> str:
        """Why a mail at that time was wrong."""
        return self._evidence.contradicts([CONNECTION], BEGINS, BEGINS + timedelta(minutes=minutes))


@pytest.mark.parametrize(
    ("ends_after", "is_wrong"), [(None, True), (0.0, False), (20.0, False), (40.0, True)]
)
def test_a_read_contradicts_a_mail_where_who_read_it_lived_to_store_it(
    ends_after: float | None, is_wrong: bool
) -> None:
    heard_case = HeardCase()
    host = heard_case.answer(10, RECORD)
    if ends_after is not None:
        host.interrupted_at = heard_case.at + timedelta(seconds=ends_after)
    assert bool(heard_case.contradicts(13)) is is_wrong


def test_a_lost_login_may_be_known_whoever_was_told() -> None:
    """It is not certain that nobody knows."""
    heard_case = HeardCase()
    heard_case.answer(10, RECORD)
    heard_case.answer(11, STATUS, b'{"data": {"sync_status": "done"}}')
    host = heard_case.answer(12, STATUS, b'{"data": {"sync_status": "fail"}}')
    host.interrupted_at = heard_case.at
    assert heard_case.contradicts(80) == ""


@pytest.mark.parametrize(("synced", "is_wrong"), [("06:05:00", True), ("06:15:00", False)])
def test_a_fail_counts_against_a_read_where_it_is_of_a_later_synchronization(
    synced: str, is_wrong: bool
) -> None:
    heard_case = HeardCase()
    said = b'{"data": {"sync_status": "fail", "sync_updated_at": "2026-03-02T%sZ"}}'
    heard_case.answer(8, STATUS, said % b"06:03:00")
    heard_case.answer(10, RECORD)
    heard_case.answer(20, STATUS, said % synced.encode())
    assert bool(heard_case.contradicts(21)) is is_wrong
