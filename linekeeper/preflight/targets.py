"""What is checked: a host with a port, or a URL."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

Scheme = Literal["http", "https"]

DEFAULT_PORTS: dict[Scheme, int] = {"http": 80, "https": 443}
TLS_PORTS = frozenset({443, 4443, 8443, 9443, 50001, *range(44300, 44400)})
"""Where TLS is spoken by convention (443xx: SAP); elsewhere only a https URL says so."""
MAX_TARGET = 500
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)", re.ASCII)
_PATH = re.compile(r"[A-Za-z0-9._~:/?\[\]@!$&'()*+,;=%-]*", re.ASCII)


class TargetError(ValueError):
    """Not something that can be checked; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Target:
    """One place to reach. `host` is lower-case ASCII: a name or an address, without brackets."""

    host: str
    port: int
    scheme: Scheme | None = None
    path: str = "/"

    @property
    def tls(self) -> bool:
        """Whether it must speak TLS."""
        return self.scheme == "https" or (self.scheme is None and self.port in TLS_PORTS)

    @property
    def is_address(self) -> bool:
        """Whether `host` is an address and needs no DNS."""
        return _address(self.host) is not None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.scheme is None:
            return f"{host}:{self.port}"
        return f"{self.scheme}://{host}:{self.port}{self.path}"


def parse_target(text: str) -> Target:
    """`host:port`, `[v6]:port` or a http(s) URL; `TargetError` for anything else."""
    shown = repr(text if len(text) <= 60 else f"{text[:57]}...")
    if len(text) > MAX_TARGET:
        raise TargetError(f"{shown} is too long")
    scheme = _scheme(text, shown)
    try:
        parts = urlsplit(text if scheme else f"//{text}")
        port = parts.port
        host = parts.hostname or ""
    except ValueError:
        raise TargetError(f"{shown} has no valid port; write host:port or a URL") from None
    if parts.username is not None or parts.password is not None:
        raise TargetError(f"the URL of {host!r} carries a login; leave it out")
    if port is None and scheme is not None:
        port = DEFAULT_PORTS[scheme]
    if port is None or not 1 <= port <= 65535:
        raise TargetError(f"{shown} needs a port from 1 to 65535, such as host:443")
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    if scheme is None and path:
        raise TargetError(f"{shown} has a path; write it as a URL with https://")
    if not _PATH.fullmatch(path):
        raise TargetError(f"{shown} has characters that a URL can't have")
    return Target(_host(host, shown), port, scheme, path or "/")


def _scheme(text: str, shown: str) -> Scheme | None:
    if "://" not in text:
        return None
    match text.split("://", 1)[0].lower():
        case "http":
            return "http"
        case "https":
            return "https"
    raise TargetError(f"{shown} is neither http:// nor https://")


def _host(host: str, shown: str) -> str:
    if (address := _address(host)) is not None:
        return address
    try:
        name = host.encode("idna").decode("ascii").lower().removesuffix(".")
    except UnicodeError:
        name = ""
    labels = name.split(".")
    if not name or len(name) > 253 or not all(map(_LABEL.fullmatch, labels)):
        raise TargetError(f"{shown} has no valid host name")
    if labels[-1].isdigit():
        raise TargetError(f"{shown} is no complete IP address")
    return name


def _address(host: str) -> str | None:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None
