"""A call budget that is too small for its connections is one incident of the app, with figures."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.reconcile.budget import KIND, TO_SPARE, need_of, watch_budget
from linekeeper.reconcile.due import PollOrder
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.tables import Connection, Credential, Incident
from tests.makini.peer import Peer
from tests.reconcile.answering import server, with_one_connection
from tests.reconcile.conftest import adopt, pointed_at

__all__ = ["server"]
ENTITIES = tuple(f"eam/many-{number}" for number in range(120))
"""Read every 15 minutes: eight calls a minute."""


@dataclass(slots=True)
class Fleet:
    """One connection, and the budget as it is set."""

    settings: Settings
    store: Store

    def limited(self, per_minute: int, **changes: Any) -> Settings:
        return self.settings.model_copy(update={"makini_per_minute": per_minute, **changes})

    async def load(self, per_minute: int) -> float:
        """The share that is needed of so many calls a minute."""
        async with Runtime.open(self.limited(per_minute)) as rt:
            need = await need_of(rt, await rt.app("default"), PollOrder(started=utcnow()))
        assert need is not None
        return need.load

    async def watch(self, per_minute: int, **changes: Any) -> list[str]:
        """Look at a budget of so many calls a minute; returns the status of each incident."""
        async with Runtime.open(self.limited(per_minute, **changes)) as rt:
            await watch_budget(rt, now=utcnow())
        return [incident.status for incident in await self.incidents()]

    async def incidents(self) -> list[Incident]:
        async with self.store.read() as session:
            return list(await session.scalars(select(Incident).order_by(col(Incident.id))))


@pytest.fixture
async def fleet(settings: Settings, store: Store, server: Peer) -> Fleet:
    """A connection that was found and never read."""
    with_one_connection(server)
    managed = pointed_at(settings, server.url, makini_entities=ENTITIES)
    async with Runtime.open(managed) as rt:
        await adopt(rt)
    return Fleet(managed, store)


async def test_it_opens_with_figures_and_ends_once_there_is_something_to_spare(
    fleet: Fleet,
) -> None:
    loads = {number: await fleet.load(number) for number in range(5, 60)}
    enough = min(number for number, load in loads.items() if load <= 1)
    plenty = min(number for number, load in loads.items() if load <= TO_SPARE)
    assert enough < plenty
    assert await fleet.watch(enough) == []
    assert await fleet.watch(enough - 1) == ["open"]
    [incident] = await fleet.incidents()
    assert (incident.kind, incident.app, incident.scope) == (KIND, "default", "app")
    assert incident.title == "app default · call budget too small"
    assert "8 calls a minute that the cadences need" in incident.summary
    assert await fleet.watch(enough) == ["open"]
    assert await fleet.watch(plenty) == ["resolved"]
    assert await fleet.watch(enough) == ["resolved"]


async def test_probes_count_as_reads_do(fleet: Fleet) -> None:
    few = {"makini_entities": ENTITIES[:1]}
    assert await fleet.watch(1, **few, probe_minutes=10) == []
    assert await fleet.watch(1, **few, probe_minutes=1) == ["open"]
    [incident] = await fleet.incidents()
    assert "to probe each every 1 min takes 1 calls a minute" in incident.summary


async def test_a_token_that_is_minted_anew_for_each_probe_counts(fleet: Fleet) -> None:
    """Makini may mint for five minutes; a token that a customer's login brought lasts."""
    needs = []
    async with Runtime.open(fleet.limited(1, probe_minutes=1)) as rt:
        app, now = await rt.app("default"), utcnow()
        async with rt.store.write() as session:
            connection = await session.scalar(select(col(Connection.id)))
            session.add(Credential(connection_id=connection, access_token="sealed"))
        for minted, minutes in ((False, 5), (True, 60 * 24), (True, 5)):
            ends = now + timedelta(minutes=minutes)
            async with rt.store.write() as session:
                await session.execute(update(Credential).values(minted=minted, expires_at=ends))
            needs.append(await need_of(rt, app, PollOrder(started=now)))
    [login, lasting, short] = [need for need in needs if need is not None]
    assert login.probing == lasting.probing
    assert short.probing - lasting.probing == pytest.approx(1 / 5)
    assert "with a new token" not in lasting.probes_late
    assert "with a new token for 1 connection, whose" in short.probes_late


async def test_nobody_is_told_while_nothing_is_asked_of_the_connections(fleet: Fleet) -> None:
    assert await fleet.watch(1, makini_mode="observe") == []


async def test_an_app_without_a_limit_has_enough(fleet: Fleet) -> None:
    assert await fleet.watch(1) == ["open"]
    assert await fleet.watch(0) == ["resolved"]
