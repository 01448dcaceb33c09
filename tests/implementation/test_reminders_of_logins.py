"""When a customer is reminded of the login that an implementation waits for."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update
from sqlmodel import col

from linekeeper.authentication_setup.watch import watch
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store.tables import AuthenticationSetup, ConnectLink, Customer
from tests.implementation.conftest import Office

FRIDAY_EVENING = datetime(2027, 3, 5, 19, tzinfo=UTC)
"""20:00 in Berlin: the mail is sent on Monday at nine."""
MONDAY = timedelta(days=3)


@pytest.mark.parametrize("asked_at", [FRIDAY_EVENING, FRIDAY_EVENING + timedelta(days=2)])
async def test_a_customer_who_is_mailed_on_monday_is_not_reminded_that_day(
    office: Office, settings: Settings, asked_at: datetime
) -> None:
    started = await office.start()
    standing = started.progress.standing
    async with office.store.write() as session:
        await session.execute(
            update(Customer)
            .where(col(Customer.id) == standing.customer.id)
            .values(time_zone="Europe/Berlin")
        )
        link = ConnectLink(
            app="default", customer_id=standing.customer.id, system="SAP ECC", created_by="Olaf",
            created_at=office.now, expires_at=asked_at + timedelta(days=7),
        )  # fmt: skip
        session.add(link)
        await session.flush()
        setup = AuthenticationSetup(
            run_id="run-1", system_id=standing.systems[0].id, started_at=office.now,
            started_by="Olaf", logins_from=office.now, confirmed_at=office.now,
            asked_at=asked_at, is_mailed=True, link_id=link.id, waits_for="login",
            look_at=asked_at + timedelta(days=7),
        )  # fmt: skip
        session.add(setup)
    async with Runtime.open(settings) as rt:

        async def reminded(at: datetime) -> int:
            await watch(rt, now=at)
            return len(await office.outbox("email"))

        monday = FRIDAY_EVENING + MONDAY
        for hour in (8, 12, 15):
            assert await reminded(monday.replace(hour=hour, minute=30)) == 0
        assert await reminded(monday.replace(hour=8) + timedelta(days=1)) == 1
