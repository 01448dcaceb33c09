"""Nobody logs in for an implementation that was given up, also while Prefect is away."""

from datetime import timedelta
from typing import Any

import pytest

from linekeeper.store.tables import AuthenticationSetup, ConnectLink
from tests.implementation.conftest import Office


@pytest.mark.parametrize(
    ("action", "more", "lives"),
    [
        ("abandon", {"reason": "they went bankrupt"}, False),
        ("skip", {"gate": "authentication-1", "reason": "connected by hand"}, False),
        ("skip", {"gate": "kickoff", "reason": "they know"}, True),
        ("hold", {"reason": "they move"}, True),
    ],
)
async def test_the_link_ends_with_what_asks_for_the_login(
    office: Office, action: str, more: dict[str, Any], lives: bool
):
    started = await office.start()
    standing = started.progress.standing
    link = ConnectLink(
        app="default", customer_id=standing.customer.id, system="SAP ECC", created_by="Olaf",
        created_at=office.now, expires_at=office.now + timedelta(days=7),
    )  # fmt: skip
    async with office.store.write() as session:
        session.add(link)
        await session.flush()
        setup = AuthenticationSetup(
            run_id="run-1", system_id=standing.systems[0].id, started_at=office.now,
            started_by="Olaf", logins_from=office.now, link_id=link.id, waits_for="login",
        )  # fmt: skip
        session.add(setup)
    await office.update(started.progress, action, **more)
    async with office.store.read() as session:
        kept = await session.get_one(ConnectLink, link.id)
    assert (kept.expires_at > office.now) is lives
