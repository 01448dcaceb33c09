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


async def test_a_protocol_that_is_offered_is_not_taken_and_the_request_stands(here: Here) -> None:
    """Java's own client offers HTTP/2 in each request that isn't encrypted."""
    offers = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAA")
    signed = f"X-Webhook-Signature: {signature(BODY)}"
    chunked = [b"%x\r\n%b\r\n" % (len(BODY), BODY), b"0\r\n\r\n"]
    last = head("Connection: close", path="/healthz", method="GET")
    for framing, body in (
        (f"Content-Length: {len(BODY)}", [BODY]),
        (f"Content-Length: {len(BODY)}", [BODY[:3], BODY[3:]]),
        ("Transfer-Encoding: chunked", chunked),
    ):
        request = head(*offers, signed, framing)
        for pieces in ([request, *body, last], [request + b"".join(body) + last]):
            answers = await here.raw(*pieces)
            assert answers.count(b"HTTP/1.1 200 OK") == 2, answers
    assert {event.body for event in await here.events()} == {BODY}


async def test_a_body_is_never_read_as_a_request_whatever_its_head_offers(here: Here) -> None:
    hidden = head("Connection: close", path="/healthz", method="GET")
    for offer in ("h2c", "websocket"):
        offers = ("Connection: Upgrade", f"Upgrade: {offer}", f"Content-Length: {len(hidden)}")
        for pieces in ([head(*offers), hidden], [head(*offers) + hidden]):
            answers = await here.raw(*pieces, head("Connection: close", path="/x", method="GET"))
            assert b"alive" not in answers
            assert answers.count(b"HTTP/1.1 ") == 2, answers


async def test_no_tunnel_is_opened(here: Here) -> None:
    for target in ("localhost:80", "/webhooks/default"):
        request = f"CONNECT {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        answer = await here.raw(request, head("Connection: close", path="/healthz", method="GET"))
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"alive" not in answer


async def test_as_many_offers_as_fit_into_one_piece_are_read_up_to_the_limit(here: Here) -> None:
    offering = head("Connection: Upgrade", "Upgrade: h2c", path="/healthz", method="GET")
    answers = await here.raw(offering * 2_000)
    assert answers.count(b"alive") <= 66
    assert (await here.http.get("/healthz")).status_code == 200
