"""A run that waits is woken once, however often it was to be while Prefect was away."""

from datetime import datetime, timedelta

from sqlalchemy import select
from sqlmodel import col

from linekeeper.authentication_setup import watch as setups
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store.tables import AuthenticationSetup, ConnectLink, Outbox
from tests.implementation.conftest import Office


async def waiting(office: Office, now: datetime) -> None:
    """A set-up whose link has ended: its run has to say so."""
    started = await office.start()
    standing = started.progress.standing
    async with office.store.write() as session:
        link = ConnectLink(
            app="default", customer_id=standing.customer.id, system="SAP ECC", created_by="Olaf",
            created_at=office.now, expires_at=now,
        )  # fmt: skip
        session.add(link)
        await session.flush()
        setup = AuthenticationSetup(
            run_id="run-1", system_id=standing.systems[0].id, started_at=office.now,
            started_by="Olaf", logins_from=office.now, confirmed_at=office.now,
            asked_at=office.now, link_id=link.id, waits_for="login", look_at=now,
        )  # fmt: skip
        session.add(setup)


async def woken(office: Office) -> list[str]:
    async with office.store.read() as session:
        rows = await session.scalars(
            select(col(Outbox.dedupe_key)).where(
                col(Outbox.channel) == "run",
                col(Outbox.status) == "pending",
                col(Outbox.dedupe_key).startswith("run:wake:"),
            )
        )
        return list(rows)


async def test_a_set_up_is_woken_once(office: Office, settings: Settings) -> None:
    now = office.now + timedelta(days=7)
    async with Runtime.open(settings) as rt:
        await waiting(office, now)
        for minutes in range(60):
            for seconds in (0, 5, 10):
                await setups.watch(rt, now=now + timedelta(minutes=minutes, seconds=seconds))
    assert len(await woken(office)) == 1
