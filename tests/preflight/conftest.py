"""Real peers on loopback: well-behaved, silent, rude, and with every kind of certificate."""

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from linekeeper.preflight.targets import TLS_PORTS

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Serve = Callable[..., Awaitable[int]]


_USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
    "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


@dataclass(frozen=True)
class Authority:
    """A certificate authority of our own, and the file to trust it by."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    directory: Path

    @property
    def file(self) -> str:
        return str(self.directory / "ca.pem")

    def server(
        self,
        name: str = "localhost",
        *,
        days: int = 90,
        since: int = -100,
        self_signed: bool = False,
        is_strict: bool = True,
    ) -> ssl.SSLContext:
        """A server's context whose certificate is valid from `since` to `days` days from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = issue(
            name,
            key,
            since=since,
            days=days,
            issuer=None if self_signed else self,
            is_strict=is_strict,
        )
        path = self.directory / f"{name}-{days}-{since}-{self_signed}-{is_strict}.pem"
        path.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context


def issue(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    *,
    since: int = -100,
    days: int = 90,
    issuer: Authority | None = None,
    ca: bool = False,
    is_strict: bool = True,
) -> x509.Certificate:
    """A certificate; one that `is_strict` says whose key is whose, which few clients ask for."""
    now = datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    names: list[x509.GeneralName] = [x509.DNSName(name)]
    with contextlib.suppress(ValueError):
        names = [x509.IPAddress(ipaddress.ip_address(name))]
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=since))
        .not_valid_after(now + timedelta(days=days, minutes=5))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
    )
    signing = key if issuer is None else issuer.key
    if is_strict:
        purpose = "key_cert_sign" if ca else "digital_signature"
        usage = dict.fromkeys(_USAGES, False) | {purpose: True}
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        others = x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key())
        builder = (
            builder.add_extension(own, critical=False)
            .add_extension(others, critical=False)
            .add_extension(x509.KeyUsage(**usage), critical=True)
        )
    return builder.sign(signing, hashes.SHA256())


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    directory = tmp_path_factory.mktemp("certificates")
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = issue("Test authority", key, ca=True)
    (directory / "ca.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return Authority(key, certificate, directory)


def bound() -> socket.socket:
    """A socket at a free port of 127.0.0.1 where nobody expects TLS."""
    while True:
        taken = socket.socket()
        taken.bind(("127.0.0.1", 0))
        if taken.getsockname()[1] not in TLS_PORTS:
            return taken
        taken.close()


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """`await serve(handler, tls=None)` listens on 127.0.0.1 and gives the port."""
    servers: list[asyncio.Server] = []
    handling: set[asyncio.Task[None]] = set()

    async def start(handler: Handler, tls: ssl.SSLContext | None = None) -> int:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            handling.add(task)
            try:
                with contextlib.suppress(OSError, asyncio.CancelledError):
                    await handler(reader, writer)
            finally:
                handling.discard(task)
                writer.transport.abort()

        server = await asyncio.start_server(handle, sock=bound(), ssl=tls)
        servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    yield start
    for server in servers:
        server.close()
    for task in list(handling):
        task.cancel()
    await asyncio.gather(*handling, return_exceptions=True)
    for server in servers:
        await server.wait_closed()


@pytest.fixture
def closed_port() -> int:
    with bound() as probe:
        return int(probe.getsockname()[1])


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port whose queue is full: a further connection gets no answer, as behind a firewall."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(bound())
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield int(listener.getsockname()[1])


async def answer_ok(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    date = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    writer.write(f"HTTP/1.1 401 Unauthorized\r\nDate: {date}\r\n\r\n".encode())
    await writer.drain()


async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


def saying(data: bytes) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(data)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    return handler


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X: y\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)
