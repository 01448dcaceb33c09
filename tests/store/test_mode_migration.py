"""What was managed before modes were set connection by connection is managed afterwards."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select

from linekeeper.config import AppConfig
from linekeeper.settings import Settings
from linekeeper.store import Store, new_id
from linekeeper.store.migrate import build_schema, migrate
from linekeeper.store.modes import (
    app_of,
    apply_rules,
    is_managed_in,
    is_written_to,
    load_chosen,
    load_rules,
)
from linekeeper.store.tables import Connection, Contact, Credential, Customer
from tests.store.filling import fill

BEFORE = "0041"
NOW = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
APPS = {
    "managed": AppConfig(name="managed", mode="manage", notify_customers=True),
    "quiet": AppConfig(name="quiet", mode="manage", notify_customers=False),
    "observed": AppConfig(name="observed", mode="observe", notify_customers=True),
}


async def test_a_database_with_data_is_managed_as_before(empty_settings: Settings) -> None:
    customer, ids = new_id(), {name: [new_id() for _ in range(3)] for name in APPS}
    rows: dict[str, list[dict[str, Any]]] = {
        "customer": [
            {
                "id": customer,
                "name": "Acme",
                "slug": "acme",
                "time_zone": "UTC",
                "locale": "en",
                "critical": False,
                "created_at": NOW,
            }
        ],
        "contact": [
            {
                "id": new_id(),
                "customer_id": customer,
                "name": "Jo",
                "email": "jo@acme.example",
                "confirmed": True,
            }
        ],
        "connection": [
            {
                "id": identifier,
                "app": app,
                "makini_key": f"{app}-{number}",
                "customer_id": customer,
                "name": f"Acme {number}",
                "slug": f"{app}-{number}",
                "provider": "maximo",
                "email": "it@acme.example",
                "hosting": "cloud",
                "tags": ["pilot"] if number else [],
                "setup": "disconnected" if number == 2 else "live",
                "health": "healthy",
                "health_since": NOW,
                "suspect": False,
                "judged": {},
                "custody": "borrowed" if number else "owned",
                "created_at": NOW,
            }
            for app, some in ids.items()
            for number, identifier in enumerate(some)
        ],
    }
    async with Store.open(empty_settings) as store:
        async with store.engine.begin() as connection:
            await connection.run_sync(build_schema, BEFORE)
            await connection.run_sync(fill, rows)
        assert (await migrate(store))[0] == BEFORE
        everyone = [identifier for some in ids.values() for identifier in some]
        for again in (False, True):  # as it is, and as the next sweep leaves it
            if again:
                async with store.write() as session:
                    await apply_rules(session)
            async with store.read() as session:
                assert await load_rules(session) == []
                assert await load_chosen(session, everyone) == {}
                managed = set(
                    await session.scalars(select(Connection.id).where(is_managed_in(APPS)))
                )
                assert managed == {*ids["managed"], *ids["quiet"]}
                found = list(await session.scalars(select(Connection)))
                assert {row.id: row.custody for row in found} == {
                    identifier: "borrowed" if number else "owned"
                    for some in ids.values()
                    for number, identifier in enumerate(some)
                }
                for row in found:
                    assert app_of(APPS[row.app], row) is APPS[row.app]
                    is_mailed = is_written_to(APPS, row.app, row)
                    assert is_mailed == (row.app == "managed"), row.app
                assert len(list(await session.scalars(select(Customer)))) == 1
                assert len(list(await session.scalars(select(Contact)))) == 1
                assert list(await session.scalars(select(Credential))) == []
