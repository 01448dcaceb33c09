"""Bodies and requests as no sender should make them: huge, packed, endless, no HTTP."""

import asyncio
import gzip

import pytest

from linekeeper.settings import Settings
from tests.receiver.conftest import MAX_BODY, Here, head, receiving, signature
from tests.receiver.test_webhooks import BODY


async def test_a_body_is_taken_up_to_the_limit_and_not_beyond(here: Here) -> None:
    most = b'{"id":"most"}'.ljust(MAX_BODY)
    assert (await here.post(most)).status_code == 200
    over = await here.post(most + b" ")
    assert (over.status_code, over.json()) == (413, {"error": "too_large"})
    assert len(await here.events()) == 1


async def test_a_hundred_megabytes_are_refused_without_being_read(here: Here) -> None:
    declared = head(f"Content-Length: {100 << 20}", f"X-Webhook-Signature: {'0' * 64}")
    assert b" 413 " in (await here.raw(declared)).partition(b"\r\n")[0]

    sent = 0
    _, writer = await asyncio.open_connection("127.0.0.1", here.port)
    writer.write(head("Transfer-Encoding: chunked", f"X-Webhook-Signature: {'0' * 64}"))
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    try:
        async with asyncio.timeout(20):
            while sent < 100 << 20:
                writer.write(chunk)
                await writer.drain()
                sent += len(chunk)
    except ConnectionError:
        pass
    finally:
        writer.transport.abort()
    assert sent < 20 << 20  # it hung up; what is on the way is the network's
    assert (await here.http.get("/healthz")).status_code == 200
    assert await here.events() == []


async def test_a_gzip_bomb_is_not_unpacked(here: Here) -> None:
    bomb = gzip.compress(b"0" * (32 << 20))
    assert len(bomb) < MAX_BODY
    answer = await here.post(bomb, headers={"content-encoding": "gzip"})
    assert (answer.status_code, answer.json()) == (415, {"error": "content_encoding"})


async def test_a_chunked_body_is_read_to_its_end(here: Here) -> None:
    headers = ["Transfer-Encoding: chunked", f"X-Webhook-Signature: {signature(BODY)}"]
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n"
    answer = await here.raw(head("Connection: close", *headers), chunks)
    assert answer.startswith(b"HTTP/1.1 200 ")
    [event] = await here.events()
    assert event.body == BODY


async def test_a_body_that_never_ends_is_given_up(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linekeeper.receiver.webhooks.BODY_SECONDS", 0.3)
    async with receiving(settings) as here:
        signed = f"X-Webhook-Signature: {signature(BODY)}"
        for framing, part in (
            ("Transfer-Encoding: chunked", b'5\r\n{"a":\r\n'),
            ("Content-Length: 1000", b'{"a":'),
            ("Transfer-Encoding: chunked", b""),
        ):
            answer = await here.raw(head(framing, signed), part)
            assert answer.startswith(b"HTTP/1.1 408 ")
        assert await here.events() == []


async def test_what_breaks_off_leaves_nothing(here: Here) -> None:
    signed = f"X-Webhook-Signature: {signature(BODY)}"
    for request in (
        [head("Content-Length: 1000", signed), BODY],
        [head("Transfer-Encoding: chunked", signed), b"5\r\nab"],
        [b"POST /webhooks/default HT"],
    ):
        assert b" 200 " not in await here.raw(*request, end=True)
    assert (await here.post(BODY)).status_code == 200
    assert len(await here.events()) == 1


async def test_what_is_no_http_is_a_bad_request(here: Here) -> None:
    for request in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST /webhooks/default HTTP/9.9\r\n\r\n",
        head("Content-Length: -1"),
        head("Content-Length: 5", "Content-Length: 6"),
        head("Transfer-Encoding: chunked") + b"ZZZ\r\n",
        head("X-Bad\0Name: 1"),
        head("Content-Length: 9" + "9" * 100),
    ):
        answer = await here.raw(request, end=True)
        assert not answer or answer.split(b" ")[1] in (b"400", b"413")
    assert await here.events() == []


async def test_a_head_that_is_too_long_or_too_slow_is_cut_off(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linekeeper.receiver.protocol.GuardedProtocol.head_seconds", 0.3)
    assert await here.raw(b"POST /webhooks/default HTTP/1.1\r\nX-Slow: ") == b""
    long = [b"X-Long-%d: %b\r\n" % (n, b"y" * 8_000) for n in range(200)]
    answer = await here.raw(b"POST /webhooks/default HTTP/1.1\r\n", *long)
    assert not answer or answer.startswith(b"HTTP/1.1 400 ")
