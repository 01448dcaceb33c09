"""What a record is recognised by is in the index, whoever wrote it."""

from sqlalchemy import update
from sqlmodel import col, select

from linekeeper.reconcile.identity import natural_key
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Connection, Record
from tests.reconcile.conftest import Peer, deliver, feed, process, run

ASSETS = "eam/assets"


async def kept(rt: Runtime, connection: Connection) -> dict[str, Record]:
    async with rt.store.read() as session:
        rows = await session.scalars(
            select(Record).where(
                col(Record.connection_id) == connection.id, col(Record.entity) == ASSETS
            )
        )
        return {row.key: row for row in rows}


async def test_a_poll_a_webhook_and_a_listing_of_old_rows_write_it(
    rt: Runtime, peer: Peer, one: Connection
) -> None:
    await run(rt)
    rows = await kept(rt, one)
    answer = await peer.http.get(f"{peer.url}/_control/connections/{one.makini_key}/tokens")
    bearer = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    for key, row in rows.items():
        shown = await peer.http.get(f"{peer.url}/api/{ASSETS}/{key}", headers=bearer)
        record = shown.json()["data"]
        assert row.number == record["serialNumber"]
        assert row.natural_key == natural_key(record, ("serialNumber", "name", "siteKey"))
        assert row.plain_hash is not None
    made = await peer.set(
        "records", connection=one.makini_key, entity=ASSETS, make=1, announce=False
    )
    [key] = made["records"][one.makini_key][ASSETS]["made"]
    await deliver(rt, one.makini_key, [key])
    await process(rt)
    by_webhook = (await kept(rt, one))[key]
    assert None not in (by_webhook.number, by_webhook.natural_key, by_webhook.plain_hash)
    # As rows of an earlier version are.
    before = len(await feed(rt))
    async with rt.store.write() as session:
        await session.execute(update(Record).values(number=None, natural_key=None, plain_hash=None))
    await run(rt, full=True)
    again = await kept(rt, one)
    assert {key: row.natural_key for key, row in again.items() if key in rows} == {
        key: row.natural_key for key, row in rows.items()
    }
    assert len(await feed(rt)) == before
    assert (await run(rt, full=True)).written == 0
