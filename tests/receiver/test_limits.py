"""Strangers at the receiver's socket take no place from webhooks, and no memory (SECURITY)."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from linekeeper.receiver import serve
from linekeeper.receiver.gate import SLOTS, RequestLimit
from linekeeper.settings import Settings
from tests.receiver.conftest import Here, head, receiving, signature
from tests.receiver.rough import send_all

BODY = b'{"id":"evt_1","event":"assets.updated","body":["0900"]}'
CHUNKED = "Transfer-Encoding: chunked"


@asynccontextmanager
async def held_open(here: Here, count: int, *request: bytes) -> AsyncIterator[None]:
    """`count` connections that sent `request` and then say nothing."""
    writers = []
    for _ in range(count):
        _, writer = await asyncio.open_connection("127.0.0.1", here.port)
        writer.writelines(request)
        writers.append(writer)
        await asyncio.sleep(0)
    try:
        yield
    finally:
        for writer in writers:
            writer.transport.abort()


async def test_an_encoded_slash_makes_no_route(
    here: Here, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        for path in ("/webhooks%2Fx", "/webhooks%2fdefault", "/webhooks%2Fdefault%2Fc1"):
            answer = await here.raw(head("Content-Length: 0", "Connection: close", path=path))
            assert answer.startswith(b"HTTP/1.1 404 "), path
    assert caplog.records == []


@pytest.mark.parametrize("path", ["/slack/actions", "/paste", "/api/connections", "/healthz"])
async def test_a_body_that_never_ends_is_given_up_on_every_route(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr("linekeeper.receiver.webhooks.BODY_SECONDS", 0.3)
    async with receiving(settings) as here:
        for method, framing, part in (
            ("POST", CHUNKED, b'5\r\n{"a":\r\n'),
            ("POST", "Content-Length: 1000", b'{"a":'),
            ("GET", "Content-Length: 1000", b""),
        ):
            answer = await here.raw(head(framing, path=path, method=method), part)
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert b"connection: close" in answer


async def test_a_body_that_is_too_long_is_refused_on_every_route(here: Here) -> None:
    for path, status in (("/slack/actions", 413), ("/oauth/callback", 413), ("/nowhere", 413)):
        answer = await here.raw(head(f"Content-Length: {1 << 40}", path=path))
        assert answer.startswith(b"HTTP/1.1 %d " % status)


async def test_half_sent_requests_to_pages_take_no_place_from_anybody(here: Here) -> None:
    half = head("Content-Length: 1000", path="/slack/actions"), b"payload="
    async with held_open(here, SLOTS + 40, *half):
        assert (await here.http.get("/readyz")).status_code == 200
        assert (await here.post(BODY)).status_code == 200


@pytest.mark.parametrize(
    "request_sent",
    [
        (b"POST /webhooks/default HTTP/1.1\r\nX-Slow: ",),
        (head("Content-Length: 1000"), b"{"),
        (head(CHUNKED, path="/slack/actions"), b"5\r\nab"),
        (b"",),
    ],
    ids=["in a head", "in a webhook's body", "in a page's body", "silent"],
)
async def test_when_all_connections_are_taken_who_keeps_us_waiting_longest_gives_way(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, request_sent: tuple[bytes, ...]
) -> None:
    monkeypatch.setattr(serve, "MAX_CONNECTIONS", 40)
    async with receiving(settings) as here, held_open(here, 100, *request_sent):
        for number in range(5):
            answer = await here.post({"id": f"evt_{number}", "event": "assets.updated"})
            assert answer.json()["status"] == "accepted"


async def test_what_follows_a_chunked_body_is_bounded_and_is_no_header(here: Here) -> None:
    body = b"%x\r\n%b\r\n0\r\n" % (len(BODY), BODY)
    signed = b"X-Webhook-Signature: %b\r\n\r\n" % signature(BODY).encode()
    late = await here.raw(head(CHUNKED, "Connection: close"), body, signed)
    assert late.startswith(b"HTTP/1.1 401 ")
    assert b"no_signature" in late

    for trailers in ([b"t: v\r\n" * 12_000] * 4, [b"t: "] + [b"v" * 60_000] * 4):
        answer = await here.raw(
            head(CHUNKED, f"X-Webhook-Signature: {signature(BODY)}"), body, *trailers
        )
        assert not answer or answer.startswith(b"HTTP/1.1 400 ")
    assert await here.events() == []


async def test_a_pipeline_is_bounded(here: Here) -> None:
    one = head("Content-Length: 0", path="/readyz", method="GET")
    few = await here.raw(one * 8, head("Connection: close", path="/healthz", method="GET"))
    assert few.count(b"HTTP/1.1 200 ") == 9
    many = await here.raw(one * 5_000)
    assert many.count(b"HTTP/1.1 200 ") < 200


async def test_who_reads_nothing_of_the_answers_is_cut_off(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linekeeper.receiver.protocol.GuardedProtocol.head_seconds", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", here.port, limit=1)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    asked = head(path="/openapi.json", method="GET")

    async def ask_for_ever() -> None:
        async with asyncio.timeout(30):
            while not reader.at_eof():
                writer.write(asked)
                await writer.drain()
                await asyncio.sleep(0.001)

    with pytest.raises(ConnectionError):
        await ask_for_ever()


async def test_an_answer_that_is_late_is_asked_for_again_and_goes_on_in_its_place() -> None:
    go_on, done = asyncio.Event(), asyncio.Event()

    async def slow(scope: object, receive: object, send: object) -> None:
        await go_on.wait()
        done.set()

    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    gate = RequestLimit(slow, slots=1, answer_seconds=0.01)
    german = [(b"accept-language", b"de-DE,de;q=0.9")]
    for path in ("/api/x", "/connect/x"):
        await gate({"type": "http", "path": path, "headers": german}, receive, send)
        assert gate.taken == 1  # the first is still at it, and the second finds no place
    starts = [message for message in sent if message["type"] == "http.response.start"]
    assert [start["status"] for start in starts] == [503, 503]
    page = next(body for message in sent if b"<html" in (body := message.get("body", b"")))
    assert b'lang="de"' in page
    assert "Bitte versuchen Sie es in einer Minute noch einmal" in page.decode()
    go_on.set()
    await done.wait()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert gate.taken == 0


async def test_rough_requests_to_every_route_are_answered_and_leave_nothing(
    here: Here, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        answers = await send_all(here.port, random.Random(1), 600)
        patience = 0.2
        while not {200, 400, 401, 404, 405, 413} <= answers.keys():  # the machine is busy
            answers += await send_all(here.port, random.Random(1), 600, patience=patience)
            patience *= 4
    assert answers[500] == 0, answers
    assert [record.getMessage() for record in caplog.records] == []
    assert (await here.post(BODY)).status_code == 200
