"""Who needs no encryption, and why a peer, or its certificate, is of no use, in words. Pure."""

import ipaddress
import os
import socket
import ssl

_LOCAL_NAMES = {"localhost", "localhost.localdomain", "ip6-localhost"}


def tls_trouble(error: BaseException) -> str | None:
    """Say why no secure connection came to be, and who has to act; None if it is another failure.

    The libraries wrap the error of `ssl` in their own: it is looked for among the causes.
    """
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        wrapped = getattr(cause, "certificate_error", None) or getattr(cause, "os_error", None)
        if wrapped is None and isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"its certificate is not accepted ({cause.verify_message.rstrip('.')}): it has to "
                "be renewed or corrected there, or the authority that issued it trusted here "
                "(SSL_CERT_FILE)"
            )
        if wrapped is None and isinstance(cause, ssl.SSLError):
            return (
                f"it speaks no TLS that works ({cause.reason or 'no handshake'}): look at whether "
                "the port is that of HTTPS"
            )
        cause = wrapped or cause.__cause__ or cause.__context__
    return None


def unreachable_because(error: BaseException) -> str:
    """Say why nothing came back: the certificate, or what the system says, or the error's kind.

    The aiohttp transport calls every lost connection `ConnectTimeout`; the cause knows.
    """
    if (trouble := tls_trouble(error)) is not None:
        return trouble
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        said = getattr(cause, "os_error", None) or cause
        if isinstance(said, socket.gaierror):
            return "its name can't be looked up"
        if isinstance(said, OSError) and not isinstance(said, TimeoutError) and said.errno:
            return os.strerror(said.errno).lower()
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__


def is_loopback(host: str) -> bool:
    """Whether `host` can be reached from this machine only."""
    if host.lower() in _LOCAL_NAMES:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
