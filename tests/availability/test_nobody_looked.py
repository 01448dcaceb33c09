"""What nobody could know: an app that was out of the settings, or everything that was paused."""

from datetime import datetime, timedelta

import pytest
from sqlalchemy import select, update

from linekeeper.availability.decide import WaitedFor
from linekeeper.clock import utcnow
from linekeeper.config import AppConfig
from linekeeper.orchestrator import Blocks
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.configuration import save_blocks
from linekeeper.store.tables import Connection, Silence, Transition
from linekeeper.sweep.app import close_removed
from linekeeper.watch.queries import note_prefect
from tests.availability.test_standstill import minutes, planted

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
DEFAULT = AppConfig(name="default", client_id="id", client_secret="secret")


async def settled(settings: Settings, *apps: str, at: datetime) -> None:
    """What a sweep at `at` does first, where the settings name these apps alone."""
    named = [DEFAULT.model_copy(update={"name": app}) for app in apps]
    async with Runtime.open(settings) as rt:
        await save_blocks(rt.store, Blocks(apps=named), now=at)
        await close_removed(rt, now=at)


async def turned(store: Store, *turns: tuple[datetime, str]) -> None:
    """The connection was healthy, and then was as `turns` say."""
    before = "healthy"
    async with store.write() as session:
        connection = (await session.scalars(select(Connection))).one()
        for at, after in turns:
            row = Transition(
                connection_id=connection.id,
                at=at, axis="health", before=before, after=after, source="sweep",
            )  # fmt: skip
            session.add(row)
            before = after
        connection.health = before


@pytest.mark.parametrize("is_back", [True, False])
async def test_nobody_knows_how_a_connection_was_while_its_app_was_out_of_the_settings(
    settings: Settings, store: Store, is_back: bool
) -> None:
    now = utcnow()
    await planted(store, now=now)
    await settled(settings, "default", at=now - 4 * HOUR)
    await settled(settings, "other", at=now - 3 * HOUR)
    if is_back:
        await settled(settings, "default", "other", at=now - HOUR)
    found = await minutes(store, now)
    assert found[WaitedFor.unknown] == pytest.approx(120 if is_back else 180, abs=1)
    assert found[WaitedFor.healthy] == pytest.approx(180 if is_back else 120, abs=1)


async def test_whose_fault_a_trouble_was_meanwhile_is_not_known(
    settings: Settings, store: Store
) -> None:
    """Whether Makini was away as a whole nobody saw, and when it was over neither."""
    now = utcnow()
    await planted(store, now=now)
    fell, out, back = now - 3.5 * HOUR, now - 3 * HOUR, now - HOUR
    await settled(settings, "other", at=out)
    await settled(settings, "default", at=back)
    await turned(store, (fell, "unreachable"), (back + 20 * MINUTE, "healthy"))
    found = await minutes(store, now)
    assert found[WaitedFor.customer_system] == pytest.approx(50, abs=1)
    assert found[WaitedFor.unknown] == pytest.approx(120, abs=1)


async def test_a_login_that_was_lost_before_and_after_was_lost_meanwhile(
    settings: Settings, store: Store
) -> None:
    now = utcnow()
    await planted(store, now=now)
    await settled(settings, "other", at=now - 3 * HOUR)
    await settled(settings, "default", at=now - HOUR)
    await turned(store, (now - 4 * HOUR, "reauthorization_required"))
    found = await minutes(store, now)
    assert found[WaitedFor.customer_login] == pytest.approx(240, abs=1)


async def test_each_time_that_an_app_was_out_counts_and_no_other_app(
    settings: Settings, store: Store
) -> None:
    now = utcnow()
    await planted(store, now=now)
    for hours in (4, 2):
        await settled(settings, "other", at=now - hours * HOUR)
        await settled(settings, "default", at=now - (hours - 0.5) * HOUR)
    found = await minutes(store, now)
    assert found[WaitedFor.unknown] == pytest.approx(60, abs=1)


@pytest.mark.parametrize(("paused", "unknown"), [(2 * HOUR, 120), (10 * MINUTE, 0)])
@pytest.mark.parametrize("is_over", [True, False])
async def test_nobody_knows_how_a_connection_was_while_everything_was_paused(
    store: Store, paused: timedelta, unknown: int, is_over: bool
) -> None:
    """A pause as short as the time between two probes hides nothing."""
    now = utcnow()
    ended = now - HOUR if is_over else now
    await planted(store, now=now)
    await note_prefect(store, {}, paused=True)
    if is_over:
        await note_prefect(store, {}, paused=False)
    async with store.write() as session:
        times = {"starts_at": ended - paused}
        await session.execute(update(Silence).values(times))
        if is_over:
            await session.execute(update(Silence).values(ends_at=ended, ended_at=ended))
    found = await minutes(store, now)
    assert found[WaitedFor.unknown] == pytest.approx(unknown, abs=1)
    assert found[WaitedFor.healthy] == pytest.approx(300 - unknown, abs=1)
