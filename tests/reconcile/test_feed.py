"""The change feed and the export, as other programs read them."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from linekeeper.access.keys import make_key
from linekeeper.clock import utcnow
from linekeeper.receiver import serve
from linekeeper.reconcile.feed import read_feed
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store.tables import Connection
from tests.answering import answering
from tests.forking import python
from tests.reconcile.conftest import Peer, deliver, feed, index, process, run


async def pages(rt: Runtime, limit: int) -> list[dict[str, Any]]:
    """All of the feed, page by page."""
    found: list[dict[str, Any]] = []
    after = None
    while True:
        page = await read_feed(rt.store, after, limit=limit)
        if not page.changes:
            assert page.next == after or after is None
            return found
        found += [change.as_json() for change in page.changes]
        after = page.next


async def test_the_feed_gives_every_change_once_and_each_connections_in_order(
    rt: Runtime, peer: Peer
) -> None:
    await run(rt)
    for _ in range(3):
        await peer.set("records", make=4, change=20, announce=False)
        await run(rt)
        await read_feed(rt.store, None, limit=5)  # placed bit by bit, between the runs
    changes = await pages(rt, 7)
    wanted = await feed(rt)
    assert len(changes) == len({row["id"] for row in changes}) == len(wanted)
    for connection in {row["connection"] for row in changes}:
        assert [row["id"] for row in changes if row["connection"] == connection] == [
            change.id for change in wanted if change.connection_id == connection
        ]


async def test_readers_side_by_side_place_nothing_twice(rt: Runtime, peer: Peer) -> None:
    await run(rt)
    await peer.set("records", change=60, announce=False)
    _, *pages_of_each = await asyncio.gather(run(rt), *(pages(rt, 9) for _ in range(4)))
    assert all(len({c["id"] for c in verdict}) == len(verdict) for verdict in pages_of_each)
    assert len(await pages(rt, 1_000)) == 60


async def test_the_product_reads_it_over_http_with_a_key(
    rt: Runtime, peer: Peer, one: Connection, settings: Settings
) -> None:
    await run(rt)
    done = await peer.set(
        "records", connection=one.makini_key, entity="eam/assets", change=3, announce=False
    )
    keys = done["records"][one.makini_key]["eam/assets"]["changed"]
    await deliver(rt, one.makini_key, keys[:1])
    await process(rt)
    await run(rt)
    async with rt.store.write() as session:
        key = await make_key(session, "product", ["changes:read"], by="tests", now=utcnow())
        other = await make_key(session, "other", ["tokens:read"], by="tests", now=utcnow())
    with serve.listening(settings.model_copy(update={"receiver_port": 0})) as listener:
        url = serve.address(listener)
        async with answering(rt, listener), httpx.AsyncClient(base_url=url) as http:
            headers = {"Authorization": f"Bearer {key}"}
            first = (await http.get("/api/changes?limit=2", headers=headers)).json()
            assert [set(change) for change in first["data"]] == [
                {"id", "connection", "makini_key", "entity", "key", "op", "updated_at"}
            ] * 2
            rest = await http.get(f"/api/changes?after={first['next']}", headers=headers)
            assert len(rest.json()["data"]) == 1
            again = await http.get(f"/api/changes?after={rest.json()['next']}", headers=headers)
            assert again.json() == {"data": [], "next": rest.json()["next"]}
            changes = [*first["data"], *rest.json()["data"]]
            assert {change["key"] for change in changes} == set(keys)
            wrong = await http.get("/api/changes?after=mine", headers=headers)
            assert wrong.status_code == 400
            for limit in ("0", "x", "-1", "1001", "9" * 40):
                bad = await http.get(f"/api/changes?limit={limit}", headers=headers)
                assert bad.status_code == 422
            refused = await http.get("/api/changes", headers={"Authorization": f"Bearer {other}"})
            assert refused.status_code == 403
            assert (await http.get("/api/changes")).status_code == 401


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True, scope="session")
async def test_the_index_is_exported_as_ndjson(
    rt: Runtime, settings: Settings, peer: Peer, one: Connection, tmp_path: Path
) -> None:
    await run(rt)
    file = tmp_path / "records.ndjson"
    env = {
        **os.environ,
        "LINEKEEPER_HOME": str(settings.home),
        "LINEKEEPER_DATABASE_URL": settings.resolved_database_url,
        "LINEKEEPER_ENCRYPTION_KEYS": settings.encryption_keys[0].get_secret_value(),
    }

    async def export(to: Path) -> tuple[int | None, str]:
        words = ("records", "export", one.makini_key, "--output", str(to))
        process = await python("linekeeper.cli", *words, env=env)
        said, _ = await process.communicate()
        return process.returncode, said.decode()

    code, said = await export(Path("/dev/full"))
    assert code == 1
    assert said.strip().endswith("/dev/full: no space left on device; the export is not whole")
    assert "Traceback" not in said
    code, said = await export(file)
    assert code == 0, said
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    wanted = (await index(rt))[one.makini_key]
    assert {(row["entity"], row["key"]) for row in rows} == {
        (entity, key) for entity, found in wanted.items() for key in found
    }
    assert f"{len(rows)} records exported" in said
    assert all(row["body"] is None for row in rows)
