"""Bodies of webhooks are encrypted once they are settled, and go on being of use."""

from datetime import timedelta

import orjson
import pytest
from cryptography.fernet import Fernet
from sqlalchemy import select, update
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.explain.service import explain
from linekeeper.inbox.replay import Selection, replay
from linekeeper.inbox.sealing import SEALED_AFTER, kept_keys, seal_settled
from linekeeper.reconcile.run import reconcile
from linekeeper.store import KeyProblem, Store
from linekeeper.store.bodies import open_payload
from linekeeper.store.cipher import Cipher, is_sealed
from linekeeper.store.rotate import rotate_keys
from linekeeper.store.tables import Change, Drift, WebhookEvent
from tests.explain.planting import some_key, subject
from tests.inbox.process.stage import Stage

SECRET = "Jo Doe's pump"


def test_what_is_sealed_is_opened_by_any_of_the_keys_and_by_no_other() -> None:
    old, new, strange = (Fernet.generate_key().decode() for _ in range(3))
    for content in (b"", b"{}", b"\x00\xff" * 5_000):
        kept = Cipher([old]).seal(content)
        assert is_sealed(kept)
        assert kept != Cipher([old]).seal(content)
        assert Cipher([new, old]).unseal(kept) == content
        assert not Cipher([new, old]).is_sealed_by_first(kept)
        with pytest.raises(KeyProblem):
            Cipher([strange]).unseal(kept)
        for broken in (kept[:-1], kept[:9], kept[:-1] + bytes([kept[-1] ^ 1])):
            assert open_payload(Cipher([old]), broken) is None
    assert Cipher([old]).unseal(b'{"plain": 1}') == b'{"plain": 1}'


async def test_a_key_with_a_line_feed_is_one_key_once_its_body_is_encrypted(stage: Stage) -> None:
    [which, *_] = stage.connections
    body = orjson.dumps(
        {"id": "e2", "event": "assets.updated", "body": [{"key": "a\nb"}, {"key": "c"}]}
    )
    receipt = await stage.deliver(body, to=which)
    await stage.process()
    await seal_settled(stage.rt.store, now=utcnow() + 2 * SEALED_AFTER)
    kept = await stage.event(receipt.id)
    assert kept.body_keys is not None
    assert kept_keys(kept.body, kept.body_keys) == ["a\nb", "c"]


async def test_a_settled_body_is_encrypted_and_still_explained_replayed_and_forwarded(
    stage: Stage,
) -> None:
    [which, *_] = stage.connections
    key = await some_key(stage, which)
    named = [{"key": key, "x": SECRET}]
    body = orjson.dumps({"id": "e1", "event": "assets.updated", "body": named})
    receipt = await stage.deliver(body, to=which)
    later = utcnow() + SEALED_AFTER + timedelta(minutes=1)
    await seal_settled(stage.rt.store, now=later)
    assert (await stage.event(receipt.id)).body == body  # not settled yet
    await stage.process()
    await seal_settled(stage.rt.store, now=utcnow())
    assert (await stage.event(receipt.id)).body == body  # the version before may still read it
    await seal_settled(stage.rt.store, now=later)
    kept = await stage.event(receipt.id)
    assert kept.body is not None
    assert SECRET.encode() not in kept.body
    assert kept.body_keys == key.encode()
    assert open_payload(stage.rt.store.cipher, kept.body) == body

    await stage.forward()
    assert any(SECRET.encode() in content for content in stage.product.raw)
    configuration = await stage.rt.configuration()
    for asked in (await subject(stage, which, key), receipt.id):
        found = await explain(stage.rt.store, configuration, asked, now=utcnow())
        assert receipt.id in orjson.dumps(found.answer().as_json()).decode(), asked
    selected = Selection("processed")
    done = [n async for n in replay(stage.rt.store, configuration.apps, selected, now=utcnow())]
    assert sum(done) == 1
    await stage.process()
    [_, again] = await stage.events()
    assert (again.status, again.connection_id) == ("processed", which.id)
    assert again.body == kept.body


async def test_a_record_whose_delivery_is_encrypted_by_now_was_not_missed(stage: Stage) -> None:
    """The webhook came while the record could not be read; a poll finds the change later."""
    [which, *_] = stage.connections
    rt = stage.rt
    await reconcile(rt, connections=[which.id])  # the first listing
    key = await some_key(stage, which)
    await stage.deliver({"id": "e1", "event": "assets.inserted", "body": [key]}, to=which)
    settled = {"status": "deferred", "processed_at": utcnow(), "connection_id": which.id}
    async with rt.store.write() as session:
        await session.execute(update(WebhookEvent).values(**settled))
    await seal_settled(rt.store, now=utcnow() + 2 * SEALED_AFTER)
    [event] = await stage.events()
    assert is_sealed(event.body or b"")
    await reconcile(rt, connections=[which.id])
    async with rt.store.read() as session:
        change = await session.scalar(select(Change).where(col(Change.key) == key))
        missed = await session.scalars(select(Drift).where(col(Drift.missed) > 0))
        assert change is not None
        assert (change.recovered, change.announced_at) == (False, event.received_at)
        assert list(missed) == []
    assert [row for row in await stage.forwards() if "recovered" in str(row.payload)] == []


async def test_a_rotation_takes_bodies_along(stage: Stage) -> None:
    [which, *_] = stage.connections
    receipt = await stage.deliver({"event": "moon.rising", "note": SECRET}, to=which)
    await stage.process()
    await seal_settled(stage.rt.store, now=utcnow() + 2 * SEALED_AFTER)
    before = (await stage.event(receipt.id)).body
    new, old = Fernet.generate_key().decode(), stage.rt.settings.encryption_keys[0]
    rotating = Store(stage.rt.store.engine, Cipher([new, old.get_secret_value()]))
    done = await rotate_keys(rotating)
    assert f"webhook_event {receipt.id}" not in [*done.unreadable, *done.written_since]
    after = (await stage.event(receipt.id)).body
    assert after != before
    opened = open_payload(Cipher([new]), after)
    assert opened is not None
    assert SECRET.encode() in opened
    assert (await rotate_keys(rotating)).changed == 0
