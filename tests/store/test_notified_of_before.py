"""What people were notified of of a slip is a column; lines of text only of the version before."""

from datetime import UTC, date, datetime
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.engine import Connection as SyncConnection
from sqlmodel import col

from linekeeper.implementation.notified import (
    NotifiedSlip,
    Sign,
    as_text,
    notified_of,
    payload_of,
    signs_in,
)
from linekeeper.settings import Settings
from linekeeper.store import new_id
from linekeeper.store.tables import Implementation
from tests.store.filling import fill, migrated

BEFORE = "0062"
NOW = datetime(2027, 3, 1, 9, 30, tzinfo=UTC)
DAY = NOW.date()
CONNECTION = new_id()
SLIP = NotifiedSlip(
    (Sign("overdue", "kickoff"), Sign("unreachable", CONNECTION), Sign("commitment", "late")),
    date(2027, 3, 8),
    ("at risk", "late"),
)
CASES = [
    NotifiedSlip(),
    NotifiedSlip((Sign("soon", "workflow-configuration-2"),)),
    SLIP,
    NotifiedSlip((), date(2027, 3, 8), ("late",), NOW),
]


def _fill(connection: SyncConnection) -> None:
    customer = {
        "id": new_id(), "name": "Acme", "slug": "acme", "time_zone": "UTC", "locale": "en",
        "critical": False, "created_at": NOW,
    }  # fmt: skip
    implementations = [
        {
            "id": new_id(), "key": f"k{number}", "slug": f"s{number}", "title": "Acme",
            "customer_id": customer["id"], "app": "default", "complexity": "standard",
            "hosting": "cloud", "custom_workflows": 0, "run_attempt": 0,
            "kickoff": DAY, "owner": "ann", "status": "running",
            "started_at": NOW, "started_by": "ann", "planned_p50": DAY, "planned_p80": DAY,
            "p50": DAY, "p80": DAY, "commitment": "none", "progress": 0.0, "forecast_at": NOW,
            "told": as_text(case), "template": {}, "actual": {}, "holds": "[]",
        }
        for number, case in enumerate(CASES)
    ]  # fmt: skip
    fill(connection, {"customer": [customer], "implementation": implementations})


async def test_what_was_notified_before_is_in_its_column(empty_settings: Settings) -> None:
    async with migrated(empty_settings, BEFORE, _fill) as session:
        rows = await session.scalars(
            select(col(Implementation.notified)).order_by(col(Implementation.key))
        )
        assert list(rows) == [None, *(case.as_json() for case in CASES[1:])]


@pytest.mark.parametrize("case", CASES)
def test_what_is_stored_is_read_as_it_was(case: NotifiedSlip) -> None:
    stored, text = case.as_json(), as_text(case)
    assert notified_of(stored, text) == case
    assert notified_of(None, text) == case, "the version before wrote it"
    assert notified_of(SLIP.as_json(), text) == case, "the version before wrote it since"


def test_a_message_of_the_version_before_says_the_same() -> None:
    payload: dict[str, Any] = payload_of(SLIP.signs)
    assert {*signs_in(payload)} == {*signs_in({"signs": payload["signs"]})} == {*SLIP.signs}
