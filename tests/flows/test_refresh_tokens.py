"""refresh-tokens, run as Prefect runs it."""

import itertools
from datetime import timedelta

import pytest

import sandbox
from flows.refresh_tokens import refresh_tokens
from linekeeper.budget import DatabaseBudget
from linekeeper.clock import utcnow
from linekeeper.makini import TokenPair
from linekeeper.store import Store
from linekeeper.store.tables import Connection, Credential
from linekeeper.tokens.stored import save_tokens
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import Running, on, on_both
from tests.flows.suspended import edges
from tests.flows.test_reconnect_flows import adopted, ended, fleet, rows

__all__ = ["fleet"]
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    on_both,
]


async def ending(store: Store, fleet: sandbox.Served, connection: Connection, *, days: int) -> None:
    """Has the login of `connection` end in so many days."""
    found = fleet.world.find(connection.makini_key)
    assert found is not None
    pair = fleet.world.tokens.pair(found)
    ends = utcnow() + timedelta(days=days)
    async with store.write() as session:
        given = TokenPair(pair.access, pair.refresh, ends, minted=False)
        await save_tokens(store, session, {connection.id: given}, now=utcnow())


async def test_what_is_renewed_counts_whatever_becomes_of_the_others(
    running: Running,
    store: Store,
    clean_prefect: PrefectServer,
    fleet: sandbox.Served,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tasks.refresh_tokens.renew_tokens.retry_delay_seconds", [0.1])
    monkeypatch.setenv("LINEKEEPER_MAKINI_PER_MINUTE", "6000")
    await adopted()
    [soon, paused, *_] = await rows(store, Connection)
    for connection in (soon, paused):
        await ending(store, fleet, connection, days=3)
    until = utcnow() + timedelta(minutes=40)
    await DatabaseBudget(store).penalise("default", until, connection=paused.makini_key)
    with on(clean_prefect):
        state = await refresh_tokens(return_state=True)
    name, message = ended(state)
    assert name == "Failed"
    assert message.startswith("1 login could not be renewed: ")
    assert paused.name in message
    assert "; 1 renewed" in message
    assert (await running.last()).name.startswith("refresh-tokens · 1 renewed")


async def test_what_ends_soon_is_renewed_and_in_the_artifact(
    running: Running, store: Store, clean_prefect: PrefectServer, fleet: sandbox.Served
) -> None:
    await adopted()
    [soon, later, *_] = await rows(store, Connection)
    for surveyed, days in ((soon, 3), (later, 20)):
        await ending(store, fleet, surveyed, days=days)
    with on(clean_prefect):
        state = await refresh_tokens(return_state=True)
        _, lines = await edges(running, (await running.last()).id, 3)
    assert ended(state) == ("Completed", "1 renewed, 0 need a login soon, 2 end within 31 days")
    chain = ["renew expiring logins", "announce logins that end", "update expiry page"]
    assert lines == set(itertools.pairwise(chain))
    assert (await running.last()).name.startswith("refresh-tokens · 1 renewed")
    table = await running.artifact("expiry")
    assert table.count("by itself") == 2
    assert "data:image/svg+xml;base64" in table
    kept = {row.connection_id: row for row in await rows(store, Credential)}
    assert kept[soon.id].expires_at > utcnow() + timedelta(days=25)
