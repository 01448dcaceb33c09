"""What the doctor says of the product's address: reached, safe, signed; and nothing is posted."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from ssl import SSLContext

from pydantic import SecretStr

from linekeeper.config import AppConfig
from linekeeper.doctor.product import examine_product
from tests.self_signed import self_signed


@asynccontextmanager
async def product(tls: SSLContext | None = None) -> AsyncIterator[tuple[int, list[str]]]:
    """Its port, and the first line of each request."""
    asked: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readline()).decode().strip())
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "0.0.0.0", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1], asked


async def said(url: str, secret: str = "whsec_x") -> tuple[str, str]:
    app = AppConfig(forward_url=url, forward_secret=SecretStr(secret))
    [finding] = await examine_product(app, seconds=5)
    assert "hidden" not in finding.text
    return finding.level, finding.text


async def test_a_product_that_answers_is_in_order_and_gets_nothing() -> None:
    async with product() as (port, asked):
        assert await said(f"http://127.0.0.1:{port}/hidden") == (
            "ok",
            f"http://127.0.0.1:{port} answers",
        )
    assert asked == ["HEAD / HTTP/1.1"]


async def test_a_certificate_that_is_not_accepted_is_named(tmp_path: Path) -> None:
    async with product(self_signed(tmp_path)) as (port, asked):
        level, text = await said(f"https://127.0.0.1:{port}/hidden")
    assert level == "wrong"
    assert "its certificate is not accepted (self-signed certificate)" in text
    assert asked == []


async def test_one_that_is_away_unencrypted_or_unsigned_is_pointed_out() -> None:
    async with product() as (port, _):
        assert "is not encrypted" in (await said(f"http://0.0.0.0:{port}/hidden"))[1]
        assert await said(f"http://127.0.0.1:{port}/hidden", secret="") == (
            "warn",
            f"http://127.0.0.1:{port} gets its messages unsigned",
        )
    level, text = await said(f"http://127.0.0.1:{port}/hidden")
    assert level == "wrong"
    assert "can't be reached" in text
    assert "connection refused" in text


async def test_an_app_that_forwards_nothing_has_nothing_to_be_said_of() -> None:
    assert await examine_product(AppConfig(), seconds=5) == []
