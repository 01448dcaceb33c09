"""Faults on the way from outside to the receiver are told apart, certificates among them."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.canary.test_canary import fly, what
from tests.receiver.processes import free_port


async def test_faults_on_the_way_are_told_apart(tmp_path: Path) -> None:
    assert await what(tmp_path, f"http://127.0.0.1:{free_port()}") == "refused"
    assert await what(tmp_path, "https://linekeeper.invalid") == "dns"
    async with answering(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n") as url:
        assert await what(tmp_path, url) == "proxy"
        assert await what(tmp_path, url.replace("http:", "https:")) == "tls"
    async with answering(b"HTTP/1.1 404 X\r\ncontent-length: 2\r\n\r\nno") as url:
        assert await what(tmp_path, url) == "proxy"
    async with answering(b"HTTP/1.1 200 X\r\ncontent-length: 2\r\n\r\nOK") as url:
        assert await what(tmp_path, url) == "proxy"
    moved = b"HTTP/1.1 301 X\r\nlocation: https://b.example/\r\ncontent-length: 0\r\n\r\n"
    async with answering(moved) as url:
        assert await what(tmp_path, url) == "redirect"
    async with answering(b"") as url:
        assert await what(tmp_path, url) == "broken_off"
    async with answering(None) as url:
        assert await what(tmp_path, url, "--timeout", "0.5") == "no_answer"


@asynccontextmanager
async def answering(content: bytes | None, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Somebody who answers with `content` whatever comes, and hangs up; None: who never does."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            first = await reader.read(65_536)
            if content is None:
                await reader.read()
            elif b"\r\n\r\n" in first and not first.endswith(b"}"):
                await reader.read(65_536)  # the body comes after the head
            writer.write(content or b"")
            await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def certificate(folder: Path, name: str, *, days: int) -> Path:
    """A certificate of its own authority for `name`, with its key, that ends in `days`."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=30))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}-{days}.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


async def test_a_certificate_is_checked_as_makini_does(tmp_path: Path) -> None:
    body = b'{"status":"accepted","id":"019ac000-0000-7000-8000-000000000000"}'
    good = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    for name, days, expected in (
        ("localhost", 30, None),
        ("localhost", -1, "certificate has expired"),
        ("elsewhere", 30, "Hostname mismatch"),
    ):
        pem = certificate(tmp_path, name, days=days)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(pem)
        async with answering(good, tls) as plain:
            url = plain.replace("http://127.0.0.1", "https://localhost")
            code, said = await fly(tmp_path, url, "--ca-file", str(pem))
            assert (code, said["what"]) == ((1, "certificate") if expected else (0, None)), said
            assert (expected or "stored") in said["text"]
            assert await what(tmp_path, url) == "certificate", "of an authority nobody knows"
