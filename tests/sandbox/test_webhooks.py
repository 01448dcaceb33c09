"""Webhooks: what they say, how they are signed, retried and spoilt."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .conftest import Box, listening

Opens = Callable[..., Awaitable[Box]]


@dataclass
class Receiver:
    """Whoever gets the webhooks; answers the next ones with `answers`, then 200."""

    url: str = ""
    got: list[tuple[str, bytes, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    def bodies(self) -> list[dict[str, Any]]:
        return [orjson.loads(body) for _, body, _ in self.got]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    kept = Receiver()

    async def take(request: Request) -> Response:
        signature = request.headers.get("X-Webhook-Signature", "")
        kept.headers.append(dict(request.headers))
        kept.got.append((request.url.path, await request.body(), signature))
        return Response(status_code=kept.answers.pop(0) if kept.answers else 200)

    app = Starlette(routes=[Route("/{path:path}", take, methods=["POST"])])
    async with listening(app) as url:
        kept.url = f"{url}/webhooks/default"
        yield kept


async def _settled(box: Box) -> list[dict[str, Any]]:
    """Wait until nothing is outstanding; every webhook of the log."""
    while box.world.webhooks.outstanding:
        await asyncio.sleep(0.01)
    log: list[dict[str, Any]] = (
        await box.http.get("/_control/truth", params={"records": "0"})
    ).json()["webhooks"]
    return log


@pytest.fixture
async def box(open_box: Opens, receiver: Receiver) -> Box:
    return await open_box(webhook_url=receiver.url, retry_scale=0.001)


async def _change(box: Box, number: int, **more: object) -> None:
    key = (await box.keys())[0]
    await box.http.post(
        "/_control/records",
        json={
            "connection": key,
            "entity": "eam/assets",
            "change": number,
            "per_webhook": 1,
            **more,
        },
    )


async def test_a_changed_record_is_announced_with_its_key_alone(
    box: Box, receiver: Receiver
) -> None:
    key = (await box.keys())[0]
    await _change(box, 1)
    await _settled(box)
    [(path, body, signature)] = receiver.got
    assert path == f"/webhooks/default/{key}"
    said = orjson.loads(body)
    assert said.keys() == {"event", "body"}
    assert said["event"] == "assets.updated"
    assert len(said["body"]) == 1
    expected = hmac.new(box.world.settings.webhook_secret.encode(), body, hashlib.sha256)
    assert signature == expected.hexdigest()


async def test_deleted_records_are_not_announced(box: Box, receiver: Receiver) -> None:
    await _change(box, 0, delete=5)
    await _settled(box)
    assert receiver.got == []


async def test_a_lost_login_is_announced_with_id_time_connection_and_details(
    box: Box, receiver: Receiver
) -> None:
    key = (await box.keys())[0]
    await box.act(key, "change-credentials")
    await box.act(key, "restore-credentials")
    await _settled(box)
    said = {body["type"]: body for body in receiver.bodies()}
    assert said.keys() == {
        "connection.auth_required",
        "connection.status_changed",
        "sync.completed",
    }
    lost = said["connection.auth_required"]
    assert lost.keys() == {"id", "type", "timestamp", "connection_id", "details"}
    assert lost["connection_id"] == key
    assert len({body["id"] for body in said.values()}) == 3


async def test_a_webhook_is_sent_again_until_it_is_answered_with_200(
    box: Box, receiver: Receiver
) -> None:
    receiver.answers = [503, 500, 204]
    await _change(box, 1)
    [sent] = await _settled(box)
    assert sent["statuses"] == [503, 500, 204, 200]
    assert (sent["fate"], sent["attempts"]) == ("delivered", 4)
    assert len({body for _, body, _ in receiver.got}) == 1


async def test_it_gives_up_after_the_scaled_day(open_box: Opens) -> None:
    box = await open_box(webhook_url="http://127.0.0.1:1/", retry_scale=0.000001)
    await _change(box, 1)
    [sent] = await _settled(box)
    assert sent["fate"] == "gave up"
    assert sent["attempts"] > 5


async def test_dropped_webhooks_are_known_to_the_truth_alone(box: Box, receiver: Receiver) -> None:
    await box.http.post("/_control/webhooks", json={"drop": 0.5})
    await _change(box, 60)
    log = await _settled(box)
    dropped = [sent for sent in log if sent["dropped"]]
    assert 0 < len(dropped) < 60
    assert len(receiver.got) == 60 - len(dropped)
    arrived = {key for body in receiver.bodies() for key in body["body"]}
    assert arrived.isdisjoint(key for sent in dropped for key in sent["keys"])


async def test_a_duplicate_is_the_same_body_twice(box: Box, receiver: Receiver) -> None:
    await box.http.post("/_control/webhooks", json={"duplicate": 1})
    await box.act((await box.keys())[0], "go-offline")
    [sent] = await _settled(box)
    assert sent["duplicated"]
    assert [body["id"] for body in receiver.bodies()] == [sent["id"]] * 2


async def test_reordered_webhooks_all_arrive_but_not_in_order(box: Box, receiver: Receiver) -> None:
    await box.http.post("/_control/webhooks", json={"reorder": 0.5})
    await _change(box, 30)
    log = await _settled(box)
    made = [sent["keys"][0] for sent in log]
    came = [body["body"][0] for body in receiver.bodies()]
    assert sorted(made) == sorted(came)
    assert made != came


async def test_a_forged_webhook_comes_beside_the_real_one_with_a_wrong_signature(
    box: Box, receiver: Receiver
) -> None:
    await box.http.post("/_control/webhooks", json={"forge": 1})
    await _change(box, 1)
    await _settled(box)
    valid = [box.world.webhooks.sign(body) == signature for _, body, signature in receiver.got]
    assert sorted(valid) == [False, True]


async def test_nothing_is_announced_while_makini_cannot_read_the_system(
    box: Box, receiver: Receiver
) -> None:
    key = (await box.keys())[0]
    await box.act(key, "go-offline")
    await _change(box, 3)
    log = await _settled(box)
    assert [sent["fate"] for sent in log if sent["keys"]] == ["unannounced"] * 3
    assert all("body" not in body for body in receiver.bodies())


async def test_a_share_that_is_none_is_refused(box: Box) -> None:
    for wrong in ({"drop": 2}, {"drop": "many"}, {"lose": 0.1}):
        answer = await box.http.post("/_control/webhooks", json=wrong)
        assert answer.status_code == 400


async def test_any_body_can_be_sent(box: Box, receiver: Receiver) -> None:
    await box.http.post("/_control/webhooks/send", json={"body": {"type": "odd"}, "path": "/x"})
    await _settled(box)
    [(path, body, _)] = receiver.got
    assert (path, body) == ("/webhooks/default/x", b'{"type":"odd"}')


async def test_standard_webhooks_are_signed_as_the_standard_says(
    open_box: Opens, receiver: Receiver
) -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    box = await open_box(webhook_url=receiver.url, webhook_secret=secret, webhook_scheme="standard")
    await box.act((await box.keys())[0], "go-offline")
    await _settled(box)
    [(_, body, _)] = receiver.got
    [headers] = receiver.headers
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert headers["webhook-id"] == orjson.loads(body)["id"]
