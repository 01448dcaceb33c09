"""What the checks saw, before anybody judges it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

TcpOutcome = Literal["open", "refused", "timeout", "unreachable"]


@dataclass(frozen=True, slots=True)
class DnsFact:
    """The addresses of a name, or why there are none."""

    addresses: tuple[str, ...] = ()
    error: str | None = None
    unknown: bool = False
    """The resolver failed: that there is no such name isn't said."""


@dataclass(frozen=True, slots=True)
class TcpFact:
    """What each address answered to a connection attempt."""

    outcomes: tuple[tuple[str, TcpOutcome], ...]


@dataclass(frozen=True, slots=True)
class TlsFact:
    """A handshake. `error` says why there was none; the others say what the certificate is like."""

    error: str | None = None
    version: str | None = None
    chain_error: str | None = None
    """Why this machine doesn't trust the certificate's chain; None if it does."""
    name_error: str | None = None
    """Why the certificate isn't for this host; None if it is."""
    not_before: datetime | None = None
    not_after: datetime | None = None


@dataclass(frozen=True, slots=True)
class HttpFact:
    """The first line of an answer. `error` says why there was none."""

    error: str | None = None
    status: int | None = None
    server_time: datetime | None = None
    """The time of the answer's Date header, aware."""
    our_time: datetime | None = None
    """When the answer came, by our clock, aware UTC."""


@dataclass(frozen=True, slots=True)
class TargetFacts:
    """All that was seen of one target; None for what wasn't tried."""

    dns: DnsFact | None = None
    tcp: TcpFact | None = None
    tls: TlsFact | None = None
    http: HttpFact | None = None
    control: str | None = None
    """Why, from outside, the open place was not reached either; None: it was."""
