"""In a maintenance window, or a pause of everything, no customer is mailed of anything.

Nor while the settings of their app can't be read: whether customers are written to is not known.
"""

from datetime import timedelta

import pytest
from sqlmodel import col

from linekeeper.orchestrator import Blocks
from linekeeper.reconnect.ending import announce_ending
from linekeeper.runtime import Runtime
from linekeeper.store.configuration import save_blocks
from linekeeper.store.tables import Connection, Silence
from linekeeper.store.tables.alerts import PAUSE_WINDOW
from tests.reconnect.post import listening
from tests.reconnect.test_ask import Opened
from tests.reconnect.test_out_of_hours import _deliver, _ends
from tests.reconnect.test_working_hours import ZONE
from tests.reconnect.working_clock import monday_morning
from tests.store.test_isolated import sealed_by_others, spoil


@pytest.mark.parametrize("scope", ["all", "customer", "connection", "pause"])
async def test_a_mail_about_a_login_that_ends_waits_for_the_end_of_the_window(
    open_house: Opened, scope: str
) -> None:
    monday = monday_morning(ZONE) + timedelta(hours=1)
    async with listening() as post:
        house = await _ends(open_house, post.url, monday + timedelta(days=4))
        [connection, *_] = await house.rows(Connection, col(Connection.customer_id).is_not(None))
        subjects = {"customer": connection.customer_id, "connection": connection.id}
        is_pause = scope == "pause"
        async with house.store.write() as session:
            window = Silence(
                scope="all" if is_pause else scope,
                kind=PAUSE_WINDOW if is_pause else "maintenance",
                subject=subjects.get(scope, ""),
                label="planned work",
                starts_at=monday - timedelta(days=1),
                ends_at=monday + timedelta(hours=2),
                by="Olaf",
            )
            session.add(window)
        await announce_ending(house.rt, now=monday)
        await _deliver(house, monday)
        assert post.mails == []
        await _deliver(house, monday + timedelta(hours=3))
        assert len(post.mails) == 1


async def test_a_mail_waits_while_the_settings_of_its_app_cannot_be_read(
    open_house: Opened,
) -> None:
    """It had ended as not needed, as that of an app which was taken out does, and never went."""
    monday = monday_morning(ZONE) + timedelta(hours=1)
    async with listening() as post:
        house = await _ends(open_house, post.url, monday + timedelta(days=4))
        known = await house.rt.configuration()
        blocks = Blocks(apps=[*known.apps.values()], mail=known.mail)
        await save_blocks(house.store, blocks, now=monday)
        await announce_ending(house.rt, now=monday)
        await spoil(house.store, "app:default", sealed_by_others("{}"))
        async with Runtime.open(house.rt.settings) as house.rt:
            assert (await house.rt.configuration()).apps == {}
            await _deliver(house, monday)
        assert post.mails == []
        await save_blocks(house.store, blocks, now=monday)
        async with Runtime.open(house.rt.settings) as house.rt:
            await _deliver(house, monday + timedelta(minutes=5))
        assert len(post.mails) == 1
