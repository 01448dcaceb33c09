"""Forwarding as Makini sends: its bytes and headers, and what it missed in its own form."""

import hmac
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, cast

import httpx
import pytest
from pydantic import SecretStr

from linekeeper.clock import utcnow
from linekeeper.inbox.replay import Selection, Status, replay
from linekeeper.outbox.forward import RecoveredChange, forward_changes
from linekeeper.outbox.forward_messages import makini_headers
from linekeeper.receiver import serve
from linekeeper.runtime import Runtime
from linekeeper.store import new_id
from tests.answering import answering
from tests.inbox.process.product import serving
from tests.inbox.process.stage import Stage

SECRET = "makinis-own-secret"
RAW = b'{ "event":"assets.updated",\n "body":["0001"], "x": 1.10 }'


@dataclass
class OldReceiver:
    """The product's receiver as it was before Linekeeper: it knows Makini's form only."""

    taken: list[tuple[str, list[tuple[bytes, bytes]], bytes]] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        signature = dict(scope["headers"]).get(b"x-webhook-signature", b"").decode()
        expected = hmac.digest(SECRET.encode(), body, "sha256").hex()
        ok = hmac.compare_digest(signature.removeprefix("sha256="), expected)
        if ok:
            self.taken.append((scope["raw_path"].decode(), scope["headers"], body))
        status = 200 if ok else 401
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@dataclass
class Place:
    """A stage whose product is an old receiver, and a receiver for Makini."""

    stage: Stage
    old: OldReceiver
    http: httpx.AsyncClient


@pytest.fixture
async def place(stage: Stage) -> AsyncIterator[Place]:
    old = OldReceiver()
    async with serving(old) as url:
        original = stage.rt.settings.model_copy(
            update={
                "forward_form": "original",
                "forward_url": f"{url}/makini/{{connection}}",
                "makini_webhook_secrets": (SecretStr(SECRET),),
                "receiver_port": 0,
            }
        )
        async with Runtime.open(original) as rt:
            with serve.listening(original) as listener:
                base = serve.address(listener)
                async with answering(rt, listener), httpx.AsyncClient(base_url=base) as http:
                    staged = Stage(rt, stage.fleet, stage.product, stage.connections)
                    yield Place(staged, old, http)


async def test_makinis_body_and_headers_arrive_byte_for_byte(place: Place) -> None:
    [first, *_] = place.stage.connections
    signature = f"sha256={hmac.digest(SECRET.encode(), RAW, 'sha256').hex()}"
    answer = await place.http.post(
        f"/webhooks/default/{first.makini_key}",
        content=RAW,
        headers=[
            ("X-Webhook-Signature", signature),
            ("Content-Type", "application/json; charset=UTF-8"),
            ("User-Agent", "Makini/7 (webhooks)"),
            ("X-Twice", "a"),
            ("X-Twice", "b"),
            ("Cookie", "ours=1"),
            ("Authorization", "Basic b3Vycw=="),
            ("X-Forwarded-For", "192.0.2.1"),
        ],
    )
    assert answer.status_code == 200
    await place.stage.process()
    await place.stage.forward()
    [(path, headers, body)] = place.old.taken
    assert body == RAW
    assert path == f"/makini/{first.makini_key}"
    names = [name for name, _ in headers]
    found = dict(headers)
    assert found[b"x-webhook-signature"].decode() == signature
    assert found[b"content-type"] == b"application/json; charset=UTF-8"
    assert found[b"user-agent"] == b"Makini/7 (webhooks)"
    assert found[b"x-twice"] == b"a, b"  # the same to HTTP (RFC 9110, 5.3)
    assert not {b"cookie", b"authorization", b"x-forwarded-for", b"webhook-id"} & set(names)
    assert b"x-linekeeper-recovered" not in found


async def test_what_webhooks_missed_comes_in_makinis_form_and_is_marked(place: Place) -> None:
    [first, *_] = place.stage.connections
    rt = place.stage.rt
    app = await rt.app("default")
    change = RecoveredChange(
        new_id(), first.id, first.makini_key, "eam/assets", "0007", "rekeyed", utcnow(), "0001"
    )
    async with rt.store.write() as session:
        await forward_changes(rt.store, session, app, [change], now=utcnow())
    await place.stage.forward()
    [(path, headers, body)] = place.old.taken
    assert body == b'{"event":"assets.updated","body":["0007"]}'
    assert path == f"/makini/{first.makini_key}"
    found = dict(headers)
    assert found[b"x-linekeeper-recovered"] == b"true"
    assert found[b"x-linekeeper-old-key"] == b"0001"


async def test_a_webhook_accepted_before_the_switch_is_signed_again(place: Place) -> None:
    [first, *_] = place.stage.connections
    await place.stage.deliver(RAW, to=first)  # as stored while the form was the envelope
    await place.stage.process()
    await place.stage.forward()
    [(_, headers, body)] = place.old.taken
    assert body == RAW
    assert dict(headers)[b"content-type"] == b"application/json"


async def test_an_envelope_keeps_no_headers(stage: Stage) -> None:
    [first, *_] = stage.connections
    receipt = await stage.deliver(RAW, to=first)
    assert (await stage.event(receipt.id)).headers is None


async def test_a_recovered_change_is_signed_as_makini_was_seen_to_sign(stage: Stage) -> None:
    app = (await stage.rt.app("default")).model_copy(
        update={"webhook_secrets": (SecretStr(SECRET),)}
    )
    digest = hmac.digest(SECRET.encode(), b"{}", "sha256")
    for seen, expected in [
        ("", digest.hex()),
        ("a" * 64, digest.hex()),
        (f"sha256={'b' * 64}", f"sha256={digest.hex()}"),
    ]:
        headers = dict(makini_headers(app, "id", b"{}", seen_signature=seen, now=utcnow()))
        assert headers[b"x-webhook-signature"].decode() == expected
    base64ed = dict(makini_headers(app, "id", b"{}", seen_signature="q" * 43 + "=", now=utcnow()))
    assert len(base64ed[b"x-webhook-signature"]) == 44


async def test_a_replay_is_handed_on_with_the_headers_of_the_original(place: Place) -> None:
    [first, *_] = place.stage.connections
    signature = hmac.digest(SECRET.encode(), RAW, "sha256").hex()
    await place.http.post(
        f"/webhooks/default/{first.makini_key}",
        content=RAW,
        headers={"X-Webhook-Signature": signature, "X-Makini": "kept"},
    )
    await place.stage.process()
    await place.stage.forward()
    apps = (await place.stage.rt.configuration()).apps
    [event] = await place.stage.events()
    again = replay(
        place.stage.rt.store, apps, Selection(cast("Status", event.status)), now=utcnow()
    )
    assert [count async for count in again] == [1]
    await place.stage.process()
    await place.stage.forward()
    assert [dict(headers)[b"x-makini"] for _, headers, _ in place.old.taken] == [b"kept", b"kept"]
