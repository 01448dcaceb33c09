"""Rough requests: every route, on a raw socket, broken in every way a seed chooses."""

import asyncio
import random
import re
from collections import Counter
from collections.abc import Sequence

from tests.receiver.conftest import signature

PATHS = (
    *("/healthz", "/readyz", "/openapi.json"),
    *("/webhooks/default", "/webhooks/default/c1", "/webhooks/standard", "/webhooks/bare"),
    *("/webhooks", "/webhooks/", "/webhooks%2Fx", "/webhooks/%2e%2e/api", "/%77ebhooks/default"),
    *("/webhooks/default%00", "/webhooks/default/%ff%fe", "/webhooks//default", "//webhooks/x"),
    *("/connect/x", "/connect/%00", "/connect/" + "A" * 90, "/connect/", "/connect/a/b"),
    *("/oauth/callback", "/oauth/callback?code=x", "/oauth/callback?state=%00&code=%ff"),
    *("/oauth/callback?" + "a=b&" * 500, "/oauth/callback?state=" + "A" * 84 + "&code=c"),
    *("/api/connections", "/api/connections/", "/api/connections/%00", "/api/connections/x/token"),
    *("/api/connections/x/observations", "/api/changes?after=%00", "/api/changes?limit=-1"),
    *("/api/tokens", "/api/canary", "/api/explain", "/api/explain?subject=%00", "/metrics"),
    *("/customer/x", "/customer/%00", "/customer/" + "A" * 90, "/customer/x.json", "/customer/"),
    *("/api%2Fconnections", "/API/connections", "/slack/actions", "/prefect/alerts", "/paste"),
    *("/", "/healthz/", "", "*", "?", "/a?b#c"),
    *("http://x/webhooks/default", "http://[/x", "x", "/" + "y" * 9_000, "/%", "/%zz", "/é"),
)
METHODS = ("GET", "POST", "POST", "POST", "HEAD", "PUT", "OPTIONS", "CONNECT", "TRACE", "PRI", "x")
VERSIONS = ("HTTP/1.1",) * 6 + ("HTTP/1.0", "HTTP/1.0", "HTTP/2.0", "HTTP/0.9", "")
BODIES = (
    *(
        b"",
        b"x",
        b"{}",
        b"null",
        b"[]",
        b'{"id":"e","body":["\\u0000"]}',
        b"\xff\x00",
        b"{" * 5_000,
    ),
    *(b'{"status":401}', b"payload=%7B%7D", b"key=lk_x&connection=y&by=z&login=w", b"a=b&" * 400),
)
HEADERS = (
    *(
        "Host: [",
        "Host: ",
        "Host: a\x00b",
        "Cookie: linekeeper-state-x=y; =; ;;",
        "X: " + "z" * 900,
    ),
    *("Authorization: Bearer lk_x", "Authorization: " + "b" * 3_000, "Authorization: Basic Og=="),
    *(
        "Content-Encoding: gzip",
        "Content-Type: multipart/form-data; boundary=",
        "Expect: 100-continue",
    ),
    *("Connection: close", "Connection: upgrade\r\nUpgrade: websocket", "Upgrade: h2c", "Range: x"),
    *(
        "X-Slack-Signature: v0=\r\nX-Slack-Request-Timestamp: 1e999",
        "X-Webhook-Id: \xff",
        "\x7f: 1",
    ),
    *("X-Slack-Request-Timestamp: " + "9" * 400, "webhook-timestamp: x", "Transfer-Encoding: gzip"),
)


def request(chance: random.Random) -> list[bytes]:
    """One request, in the pieces it is sent in; more often than not something is wrong with it."""
    body = chance.choice(BODIES)
    headers = chance.sample(HEADERS, chance.choice((0, 0, 0, 1, 2)))
    if chance.random() < 0.5:
        headers.append(f"X-Webhook-Signature: {signature(body)}")
    framing = chance.random()
    if framing < 0.5:
        headers.append(f"Content-Length: {len(body) + chance.choice((0, 0, 0, 0, 1, 90, 10**9))}")
    elif framing < 0.8:
        headers.append("Transfer-Encoding: chunked")
        body = _chunked(chance, body)
    elif framing < 0.85:
        headers += ["Content-Length: 3", f"Transfer-Encoding: {chance.choice(('chunked', 'x'))}"]
    if chance.random() < 0.5:
        target = f"{chance.choice(METHODS)} {chance.choice(PATHS)} {chance.choice(VERSIONS)}"
    else:
        target = f"{chance.choice(('GET', 'POST'))} {chance.choice(PATHS[:40])} HTTP/1.1"
    lines = [target, *(["Host: localhost"] if chance.random() < 0.9 else []), *headers, "", ""]
    raw = "\r\n".join(lines).encode("latin-1", "replace") + body
    if chance.random() < 0.1:
        raw = raw[: chance.randrange(1, len(raw) + 1)]
    if chance.random() < 0.1:
        raw = raw.replace(bytes([chance.choice(raw)]), bytes([chance.randrange(256)]), 1)
    if chance.random() < 0.1:
        raw *= chance.choice((2, 3, 100))
    cut = chance.randrange(len(raw)) if chance.random() < 0.3 else len(raw)
    return [piece for piece in (raw[:cut], raw[cut:]) if piece]


def _chunked(chance: random.Random, body: bytes) -> bytes:
    pieces = [body[start : start + 700] for start in range(0, len(body), 700)]
    extension = chance.choice((b"", b"", b";a=b", b";" + b"x" * 200))
    trailers = chance.choice(
        (b"", b"", b"X-Webhook-Signature: 00\r\n", b"Content-Length: 9\r\n", b"t: v\r\n" * 300)
    )
    framed = b"".join(b"%x%b\r\n%b\r\n" % (len(part), extension, part) for part in pieces)
    return framed + b"0\r\n" + trailers + chance.choice((b"\r\n", b"\r\n", b""))


async def send_all(
    port: int, chance: random.Random, count: int, *, at_once: int = 32, patience: float = 0.05
) -> Counter[int]:
    """Send `count` rough requests and return how often each status was answered.

    After `patience` in seconds nobody waits for an answer: to many of them there is none.
    """
    answers: Counter[int] = Counter()
    left = iter(range(count))

    async def send_some() -> None:
        for _ in left:
            seconds = 0.5 if (linger := chance.random() < 0.02) else patience
            answers.update(await send(port, request(chance), linger=linger, patience=seconds))

    await asyncio.gather(*(send_some() for _ in range(at_once)))
    return answers


async def send(
    port: int, pieces: Sequence[bytes], *, linger: bool = False, patience: float = 0.05
) -> list[int]:
    """Send `pieces`, end our half, and return the statuses of all answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    said = b""
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.05 if linger else 0)
        try:
            async with asyncio.timeout(patience):
                while some := await reader.read(65_536):
                    said += some
        except TimeoutError:
            pass
    except ConnectionError:
        pass
    finally:
        writer.transport.abort()
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d\d\d) ", said)]
