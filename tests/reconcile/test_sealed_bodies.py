"""Contents of records are encrypted at rest, under keys that can be rotated."""

import json

from cryptography.fernet import Fernet
from sqlalchemy import select, update
from sqlmodel import col

from linekeeper.reconcile.export import RecordChoice, export_records
from linekeeper.store import Store
from linekeeper.store.bodies import is_sealed
from linekeeper.store.cipher import Cipher
from linekeeper.store.rotate import rotate_keys
from linekeeper.store.tables import Record
from tests.reconcile.test_upsert import asset, connection, put

__all__ = ["connection"]


async def kept(store: Store) -> dict[str, str]:
    async with store.read() as session:
        rows = await session.execute(select(Record.key, Record.body))
        return {key: body or "" for key, body in rows}


async def exported(store: Store) -> list[str]:
    rows = [row async for rows in export_records(store, RecordChoice()) for row in rows]
    return sorted(str(row["body"]) for row in rows)


async def test_contents_are_sealed_exported_plain_and_rotated(
    store: Store, connection: str
) -> None:
    store.encrypts_bodies = True
    records = [asset(str(number), note=f"secret-{number}") for number in range(5)]
    await put(store, connection, records, bodies=True)
    before = await kept(store)
    assert all(is_sealed(body) and "secret" not in body for body in before.values())
    plain = await exported(store)
    assert [f"secret-{number}" in body for number, body in enumerate(plain)] == [True] * 5
    async with store.write() as session:  # as a version wrote it that did not encrypt
        await session.execute(update(Record).where(col(Record.key) == "0").values(body=plain[0]))
    assert await exported(store) == plain
    fresh, old = Fernet.generate_key().decode(), store.cipher
    store.cipher = Cipher([fresh, *(key.decode() for key in old._keys)])
    done = await rotate_keys(store, portion=2)
    assert (done.changed >= 5, done.unreadable, done.written_since) == (True, [], [])
    after = await kept(store)
    assert all(store.cipher.is_first(body) for body in after.values())
    assert await exported(store) == plain
    assert (await rotate_keys(store, portion=2)).changed == 0
    store.cipher = Cipher([Fernet.generate_key().decode(), fresh])
    assert await exported(store) == plain


async def test_unless_it_is_wanted_other_programs_can_read_them(
    store: Store, connection: str
) -> None:
    await put(store, connection, [asset("1", note="readable")], bodies=True)
    assert json.loads((await kept(store))["1"])["note"] == "readable"
    assert (await rotate_keys(store)).changed == 0
