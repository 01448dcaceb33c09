"""A peer whose certificate is not accepted is named as what it is, whoever calls it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import SecretStr

from linekeeper.config import AppConfig, SlackConfig
from linekeeper.makini import MakiniClient, MakiniError
from linekeeper.makini.http_client import open_client
from linekeeper.notify.refusals import SlackTrouble
from linekeeper.notify.slack_person import publish_home
from linekeeper.tls import tls_trouble
from tests.preflight.conftest import Authority, issue

WRONG = {
    "self-signed": "self-signed certificate",
    "expired": "certificate has expired",
    "of another host": "certificate is not valid for 'localhost'",
}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    directory: Path = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = issue("Test authority", key, ca=True)
    (directory / "ca.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return Authority(key, certificate, directory)


@pytest.fixture(params=WRONG)
async def peer(
    request: pytest.FixtureRequest, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[str, str]]:
    """The address of a peer with such a certificate, and what is wrong with it."""
    tls = {
        "self-signed": lambda: authority.server(self_signed=True),
        "expired": lambda: authority.server(days=-1),
        "of another host": lambda: authority.server("other.example"),
    }[request.param]()
    monkeypatch.setenv("SSL_CERT_FILE", authority.file)

    async def nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(nothing, "127.0.0.1", 0, ssl=tls) as server:
        port = server.sockets[0].getsockname()[1]
        yield f"https://localhost:{port}", WRONG[request.param]


async def test_makinis_certificate_is_named_with_what_to_do(peer: tuple[str, str]) -> None:
    url, wrong = peer
    app = AppConfig(mode="manage", api_url=url, client_id="c", client_secret=SecretStr("s"))
    async with aclosing(MakiniClient(app)) as makini:
        with pytest.raises(MakiniError) as raised:
            _ = [page async for page in makini.list_connections()]
    said = str(raised.value)
    assert "could not be reached: its certificate is not accepted (" in said
    assert wrong in said
    assert "SSL_CERT_FILE" in said
    assert "_ssl.c" not in said


async def test_slacks_certificate_is_named(peer: tuple[str, str]) -> None:
    url, _ = peer  # aiohttp read once, before this test, whom it trusts
    config = SlackConfig(
        bot_token=SecretStr("xoxb-1"), channel="C0123456789", api_url=f"{url}/api/"
    )
    with pytest.raises(SlackTrouble) as raised:
        await publish_home(config, "U0123456789", {})
    assert "its certificate is not accepted (" in str(raised.value)


async def test_the_products_certificate_is_named(peer: tuple[str, str]) -> None:
    url, wrong = peer
    async with open_client(url) as client:
        with pytest.raises((httpx.HTTPError, OSError)) as raised:
            await client.get(url)
    assert wrong in (tls_trouble(raised.value) or "")


def test_another_failure_is_no_tls_trouble() -> None:
    assert tls_trouble(ConnectionRefusedError("refused")) is None
    error = ValueError("outer")
    error.__cause__ = inner = ValueError("inner")
    inner.__cause__ = error
    assert tls_trouble(error) is None
