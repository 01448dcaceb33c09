"""`linekeeper explain` and `GET /api/explain`; reads of the change feed are recorded."""

import asyncio
import json

import httpx
from sqlalchemy import select

from linekeeper.access.keys import list_keys, make_key
from linekeeper.clock import utcnow
from linekeeper.reconcile.feed import FeedReads
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.tables import Change, Connection, FeedRead, Record
from tests.cli.commands import CommandLine
from tests.cli.conftest import command
from tests.receiver.conftest import Here, receiving

__all__ = ["command"]


async def filled(store: Store) -> str:
    """One connection with a record and the change that a poll recovered; a key to the API."""
    connection = Connection(
        app="default", makini_key="k1", name="Maximo", slug="m", provider="Maximo"
    )
    async with store.write() as session:
        session.add(connection)
        await session.flush()
        session.add(
            Record(
                connection_id=connection.id,
                entity="eam/work-orders",
                key="0004711",
                number="WO-7",
                hash="h",
            )
        )
        session.add(
            Change(
                connection_id=connection.id,
                seq=1,
                entity="eam/work-orders",
                key="0004711",
                op="updated",
                source="poll",
                recovered=True,
            )
        )
        return await make_key(session, "product", (), by="tests", now=utcnow())


async def ask(here: Here, key: str, path: str, **query: str) -> httpx.Response:
    return await here.http.get(path, params=query, headers={"authorization": f"Bearer {key}"})


async def test_the_api_explains_and_a_read_of_the_feed_is_remembered(settings: Settings) -> None:
    async with receiving(settings) as here:
        key = await filled(here.rt.store)
        for subject in ("Maximo 0004711", "k1 WO-7", "WO-7"):
            answered = await ask(here, key, "/api/explain", subject=subject)
            assert answered.status_code == 200, answered.text
            assert answered.json()["missing"] == "webhook"
            assert answered.json()["cause"] == "webhooks_never"
        assert (await ask(here, key, "/api/explain", subject="Maximo nine")).status_code == 200
        assert (await ask(here, key, "/api/explain", subject="nobody")).status_code == 404
        assert (await ask(here, key, "/api/explain")).status_code == 422
        assert (await here.http.get("/api/explain?subject=WO-7")).status_code == 401
        first = (await ask(here, key, "/api/changes")).json()
        assert len(first["data"]) == 1
        assert (await ask(here, key, "/api/changes", after=first["next"])).json()["data"] == []
    async with Store.open(settings) as store, store.read() as session:  # written at the end
        [read] = await session.scalars(select(FeedRead))
    assert (read.after, read.upto) == (0, 1)
    async with receiving(settings) as here:
        answered = await ask(here, key, "/api/explain", subject="WO-7")
        feed = next(hop for hop in answered.json()["hops"] if hop["hop"] == "feed")
        assert feed["state"] == "done"
        assert "product" in feed["text"]


async def test_reads_of_one_key_that_follow_each_other_are_one_row(store: Store) -> None:
    async with store.write() as session:
        await make_key(session, "a", (), by="tests", now=utcnow())
    async with store.read() as session:
        [key] = await list_keys(session)
    reads, now = FeedReads(), utcnow()
    for after, upto in ((0, 5), (5, 5), (5, 9), (0, 3)):
        reads.note(key.id, after, upto, at=now)
    await reads.flush(store)
    await reads.flush(store)
    async with store.read() as session:
        rows = await session.scalars(select(FeedRead).order_by("id"))
        assert sorted((row.after, row.upto) for row in rows) == [(0, 3), (0, 9)]


def test_the_command_prints_hops_or_json_and_one_line_for_what_it_does_not_know(
    command: CommandLine,
) -> None:
    command.migrated()
    said = command("explain", "Acme · Maximo 4711")
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("linekeeper: nothing is known as")

    async def fill() -> None:
        async with Store.open(Settings()) as store:
            await filled(store)

    asyncio.run(fill())
    said = command("explain", "Maximo", "0004711")
    assert (said.code, said.err) == (0, "")
    assert "Missing    webhook (owner: us; webhooks_never)" in said.out
    found = json.loads(command("explain", "Maximo 0004711", "--json").out)
    assert found["title"] == "Maximo · eam/work-orders 0004711 (WO-7)"
    assert [hop["hop"] for hop in found["hops"]][:3] == ["source", "webhook", "accepted"]
