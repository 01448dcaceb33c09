"""An implementation that was on hold before holds were kept has them afterwards, from the audit."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy.engine import Connection as SyncConnection

from linekeeper.implementation.hold import Hold, holds_of
from linekeeper.settings import Settings
from linekeeper.store import new_id
from linekeeper.store.tables import Implementation
from tests.store.filling import fill, migrated

BEFORE = "0048"
NOW = datetime(2026, 11, 30, 9, 30, tzinfo=UTC)
HELD, PAST, NEVER = new_id(), new_id(), new_id()
HOLDS = (
    (PAST, "hold", 0),
    (HELD, "hold", 1),
    (PAST, "resume", 5),
    (PAST, "hold", 9),
    (HELD, "hold", 10),  # it was on hold already
    (PAST, "abandon", 12),
)


def _at(days: int) -> datetime:
    return NOW + timedelta(days=days)


def _fill(connection: SyncConnection) -> None:
    customer = new_id()
    rows: dict[str, list[dict[str, Any]]] = {
        "customer": [
            {
                "id": customer, "name": "Acme", "slug": "acme", "time_zone": "UTC",
                "locale": "en", "critical": False, "created_at": NOW,
            }
        ],
        "implementation": [
            {
                "id": identifier, "key": f"key-{number}", "slug": f"acme-{number}",
                "customer_id": customer, "title": f"Acme {number}", "app": "default",
                "complexity": "standard", "hosting": "cloud", "custom_workflows": 0,
                "kickoff": NOW.date(), "owner": "Petra", "status": status, "template": {},
                "started_at": NOW, "started_by": "Olaf", "run_attempt": 0,
                "planned_p50": NOW.date(), "planned_p80": NOW.date(), "p50": NOW.date(),
                "p80": NOW.date(), "commitment": "none", "progress": 0, "forecast_at": NOW,
                "told": "", "actual": {},
            }
            for number, (identifier, status) in enumerate(
                ((HELD, "held"), (PAST, "abandoned"), (NEVER, "running"))
            )
        ],
        "audit": [
            {
                "id": new_id(), "at": _at(days), "by": "Olaf", "subject": "Acme",
                "action": f"implementation.{action}", "detail": {"implementation": identifier},
            }
            for identifier, action, days in HOLDS
        ],
    }  # fmt: skip
    fill(connection, rows)


async def test_the_holds_of_before_are_known(empty_settings: Settings) -> None:
    async with migrated(empty_settings, BEFORE, _fill) as session:
        found = {
            identifier: holds_of((await session.get_one(Implementation, identifier)).holds)
            for identifier in (HELD, PAST, NEVER)
        }
    assert found == {
        HELD: (Hold(_at(1)),),
        PAST: (Hold(_at(0), _at(5)), Hold(_at(9), _at(12))),
        NEVER: (),
    }
