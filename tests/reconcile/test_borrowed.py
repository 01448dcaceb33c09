"""A token that the product lent, and has replaced since: refused, and no lost login."""

from typing import Any

import pytest
from sqlmodel import col, select, update

from linekeeper.runtime import Runtime
from linekeeper.store.tables import Connection, Incident, WebhookEvent
from tests.makini.peer import Peer
from tests.reconcile.answering import server
from tests.reconcile.conftest import ENTITIES, deliver, process, run
from tests.reconcile.test_entities import MINT, STATUS, health, refusing, rt

__all__ = ["rt", "server"]  # fixtures


async def read_by(rt: Runtime, means: str) -> None:
    """Have something of the connection read."""
    if means == "poll":
        await run(rt)
    else:
        await deliver(rt, "k1", ["a-1"])
        await process(rt)


@pytest.mark.parametrize("means", ["poll", "event"])
@pytest.mark.parametrize(
    ("status", "expected"), [("refused", "unknown"), ("fail", "reauthorization_required")]
)
async def test_a_lent_token_that_is_refused_is_a_lost_login_only_where_makini_says_so(
    rt: Runtime, server: Peer, means: str, status: str, expected: str
) -> None:
    await run(rt)
    async with rt.store.write() as session:
        await session.execute(update(Connection).values(custody="borrowed"))
    minted = len(server.asked(MINT))
    for entity in ENTITIES:
        server.answer("GET", f"/api/{entity}", refusing(401, "AUTHENTICATION_FAILED"))
    said: Any = {"data": {"id": "k1", "sync_status": "fail"}}
    answer = refusing(401, "AUTHENTICATION_FAILED")
    server.answer("GET", STATUS, said if status == "fail" else answer)
    server.answer("GET", f"/api/{ENTITIES[1]}/a-1", answer)
    await read_by(rt, means)
    assert await health(rt) == expected
    assert len(server.asked(MINT)) == minted
    async with rt.store.read() as session:
        kinds = list(await session.scalars(select(col(Incident.kind))))
        settled = list(await session.scalars(select(col(WebhookEvent.status))))
    if expected == "unknown":
        assert "reauthorization_required" not in kinds
    assert settled == ([] if means == "poll" else ["deferred"])
