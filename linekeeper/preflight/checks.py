"""The checks themselves: DNS, TCP, TLS, HTTP. Each ends within its time-out, whoever answers what.

Nothing here raises for what a network or a peer does; it becomes a fact.

Python's `ssl` gives the dates of a certificate only where it trusts it; an expired one is just what
we look for, so they are read from its DER (RFC 5280, 4.1).
"""

import asyncio
import contextlib
import email.utils
import os
import socket
import ssl
import threading
from datetime import UTC, datetime

from linekeeper.preflight.facts import DnsFact, HttpFact, TcpFact, TcpOutcome, TlsFact
from linekeeper.preflight.targets import Target

_SEQUENCE, _VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18


def validity(der: bytes) -> tuple[datetime, datetime] | None:
    """Not before and not after, aware UTC; None if `der` isn't a certificate. Total."""
    try:
        certificate, _ = _element(der, _SEQUENCE)
        body, _ = _element(certificate, _SEQUENCE)
        if body[0] == _VERSION:
            _, body = _element(body)
        for _ in ("serial number", "signature algorithm", "issuer"):
            _, body = _element(body)
        dates, _ = _element(body, _SEQUENCE)
        kind = dates[0]
        first, rest = _element(dates)
        return _time(kind, first), _time(rest[0], _element(rest)[0])
    except (ValueError, IndexError):
        return None


def _element(data: bytes, tag: int | None = None) -> tuple[bytes, bytes]:
    """The content of the first element, and what follows it."""
    if tag is not None and data[0] != tag:
        raise ValueError("another element was expected")
    length, start = data[1], 2
    if length >= 0x80:
        start += length - 0x80
        length = int.from_bytes(data[2:start], "big")
    if start + length > len(data):
        raise ValueError("cut off")
    return data[start : start + length], data[start + length :]


def _time(kind: int, value: bytes) -> datetime:
    text = value.decode("ascii")
    if kind == _UTC_TIME:
        century = "19" if int(text[:2]) >= 50 else "20"
        text = century + text
    elif kind != _GENERALIZED_TIME:
        raise ValueError("not a time")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


MAX_ADDRESSES = 8
MAX_ANSWER = 32 * 1024
_NAME_CODES = frozenset({62, 64})
"""OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and _IP_ADDRESS_MISMATCH."""
_DATE_CODES = frozenset({9, 10})
"""Not yet valid, expired: a verdict of its own, by the certificate's dates."""
_NO_SUCH_NAME = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})


async def resolve(host: str, port: int, timeout: float) -> DnsFact:
    """The host's addresses, at most `MAX_ADDRESSES`.

    In a thread of its own, since the system's resolver can't be interrupted: one that hangs is
    left behind and doesn't keep the program from ending.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[DnsFact] = loop.create_future()

    def settle(fact: DnsFact) -> None:
        if not answer.done():
            answer.set_result(fact)

    def ask() -> None:
        try:
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            addresses = dict.fromkeys(str(entry[4][0]) for entry in infos)
            fact = DnsFact(addresses=tuple(addresses)[:MAX_ADDRESSES])
        except (OSError, UnicodeError) as error:
            no_such_name = isinstance(error, socket.gaierror) and error.errno in _NO_SUCH_NAME
            fact = DnsFact(error=_cause(error), unknown=not no_such_name)
        # The loop may be gone: nobody waits for the answer any more.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, fact)

    threading.Thread(target=ask, name=f"resolve {host}", daemon=True).start()
    try:
        return await asyncio.wait_for(answer, timeout)
    except TimeoutError:
        return DnsFact(error=f"no answer within {timeout:g} s", unknown=True)


async def connect(addresses: tuple[str, ...], port: int, timeout: float) -> TcpFact:
    """Try a TCP connection to each address, all at once."""
    outcomes = await asyncio.gather(*(_connect(address, port, timeout) for address in addresses))
    return TcpFact(tuple(zip(addresses, outcomes, strict=True)))


async def _connect(address: str, port: int, timeout: float) -> TcpOutcome:
    try:
        async with asyncio.timeout(timeout):
            _, writer = await asyncio.open_connection(address, port)
    except TimeoutError:
        return "timeout"
    except ConnectionRefusedError:
        return "refused"
    except OSError:
        return "unreachable"
    await _close(writer)
    return "open"


async def handshake(target: Target, address: str, timeout: float, ca_file: str | None) -> TlsFact:
    """Shake hands up to three times: for the dates, for chain and name, and for the name alone."""
    try:
        async with asyncio.timeout(timeout):
            return await _handshake(target, address, ca_file)
    except TimeoutError:
        return TlsFact(error=f"no answer within {timeout:g} s")
    except (OSError, EOFError) as error:
        return TlsFact(error=_cause(error))


async def _handshake(target: Target, address: str, ca_file: str | None) -> TlsFact:
    version, der = await _peer(address, target, _context(verify=False))
    dates = validity(der)
    chain_error = name_error = None
    try:
        await _peer(address, target, _context(verify=True, ca_file=ca_file))
    except ssl.SSLCertVerificationError as error:
        if error.verify_code in _NAME_CODES:
            name_error = _reason(error)
        elif error.verify_code not in _DATE_CODES:
            chain_error = _reason(error)
            name_error = await _name_error(address, target, der)
    return TlsFact(
        version=version,
        chain_error=chain_error,
        name_error=name_error,
        not_before=None if dates is None else dates[0],
        not_after=None if dates is None else dates[1],
    )


async def _name_error(address: str, target: Target, der: bytes) -> str | None:
    """Whether the name is wrong too: asked with the certificate itself as the one to trust."""
    context = _context(verify=True)
    context.load_verify_locations(cadata=der)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        await _peer(address, target, context)
    except ssl.SSLCertVerificationError as error:
        return _reason(error) if error.verify_code in _NAME_CODES else None
    return None


def _context(*, verify: bool, ca_file: str | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file)
    # Whichever Python asks. Since 3.13 it alone refuses what other clients take, such as an
    # authority of a company's own that puts no key identifier into its certificates.
    context.verify_flags = ssl.VERIFY_X509_TRUSTED_FIRST
    if ca_file is not None:
        context.load_default_certs()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


async def _peer(address: str, target: Target, context: ssl.SSLContext) -> tuple[str, bytes]:
    """The protocol version and the certificate the peer shows, as DER."""
    _, writer = await asyncio.open_connection(
        address, target.port, ssl=context, server_hostname=target.host
    )
    try:
        tls = writer.get_extra_info("ssl_object")
        return tls.version() or "TLS", tls.getpeercert(binary_form=True) or b""
    finally:
        await _close(writer)


async def ask(target: Target, address: str, timeout: float) -> HttpFact:
    """Ask for the target's path and read the answer's head. Certificates are judged elsewhere."""
    context = _context(verify=False) if target.scheme == "https" else None
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(
                address,
                target.port,
                ssl=context,
                server_hostname=target.host if context else None,
                limit=MAX_ANSWER,
            )
            try:
                writer.write(_request(target))
                await writer.drain()
                head = await reader.readuntil(b"\n\r\n")
            finally:
                await _close(writer)
    except TimeoutError:
        return HttpFact(error=f"no answer within {timeout:g} s")
    except asyncio.LimitOverrunError:
        return HttpFact(error="it answered, but not with HTTP (no end of its head)")
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            return HttpFact(error="the connection was closed without an answer")
        return read_head(error.partial, datetime.now(UTC))
    except OSError as error:
        return HttpFact(error=_cause(error))
    return read_head(head, datetime.now(UTC))


def read_head(head: bytes, now: datetime) -> HttpFact:
    """The status and date of an answer's head; any bytes are possible."""
    first, *lines = head.split(b"\r\n")
    words = first.split(b" ", 2)
    status = words[1] if len(words) > 1 else b""
    if not words[0].startswith(b"HTTP/1.") or len(status) != 3 or not status.isdigit():
        return HttpFact(error="it answered, but not with HTTP")
    return HttpFact(status=int(status), server_time=_date(lines), our_time=now)


def _date(lines: list[bytes]) -> datetime | None:
    for line in lines:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"date":
            try:
                date = email.utils.parsedate_to_datetime(value.decode("ascii"))
                return date.replace(tzinfo=date.tzinfo or UTC).astimezone(UTC)
            except (ValueError, OverflowError):
                return None
    return None


def _request(target: Target) -> bytes:
    host = f"[{target.host}]" if ":" in target.host else target.host
    return (
        f"GET {target.path} HTTP/1.1\r\nHost: {host}:{target.port}\r\n"
        "User-Agent: linekeeper-preflight\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    ).encode("ascii")


async def _close(writer: asyncio.StreamWriter) -> None:
    """Close at once: a peer that hangs must not hold up the end."""
    writer.transport.abort()
    with contextlib.suppress(OSError, EOFError):
        await writer.wait_closed()


def _reason(error: ssl.SSLCertVerificationError) -> str:
    return _plain(error.verify_message)


def _cause(error: BaseException) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return _plain(error.reason.replace("_", " ").lower())
    if isinstance(error, OSError) and error.errno and not isinstance(error, socket.gaierror):
        return _plain(os.strerror(error.errno))
    return _plain(getattr(error, "strerror", None) or str(error) or type(error).__name__)


def _plain(text: str) -> str:
    """One short printable line: parts of it may come from the peer."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line[:200].rstrip(".")
