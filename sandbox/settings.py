"""What a sandbox is started with."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from .quirks import QUIRKS

Scenario = Literal["demo", "quiet"]


def is_loopback(host: str) -> bool:
    """Whether `host` (a name or an address) can only be reached from this machine."""
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


@dataclass(slots=True)
class Settings:
    """Every knob of the sandbox, with defaults that let it start as it is.

    Those under "may be changed while it runs" are also open to `POST /_control/settings`.

    Raises:
        ValueError: an address other than loopback, or a number out of range. The sandbox
            hands out tokens to whoever asks, so it never listens to the network.
    """

    host: str = "127.0.0.1"
    port: int = 8643
    """0 lets the operating system choose."""
    connections: int = 24
    records_per_connection: int = 200
    """Over all entities of a connection; their bodies are made when asked for."""
    seed: int = 1
    scenario: Scenario = "quiet"
    demo_speed: float = 1.0
    """How many scripted seconds pass in one real second."""

    state_path: Path | None = None
    """Where tokens, records, states and messages outlive a restart; None forgets them."""

    client_id: str = "sandbox-client"
    client_secret: str = field(default="sandbox-secret", repr=False)
    redirects: tuple[str, ...] = ("http://127.0.0.1:8642/oauth/callback",)
    """Where Makini Link may send a customer back to, beside any loopback address."""
    mint_shape: Literal["token", "pair", "refused"] = "token"
    """What `POST /api/system/connections/{key}/token` answers: `{"token", "expires_in": 300}`
    as in Makini's one sample, a full pair, or 403."""
    distinct_ids: bool = False
    """Whether a connection's `id` differs from its `key`."""
    listed_ids: bool = True
    """Whether the list names an `id` that differs; Makini's documented rows have only a `key`."""
    earlier_status: bool = False
    """Whether only the earlier route of a status is there: it names no connection."""
    page_limit: int = 500
    """The largest page anybody gets, however large a page was asked for."""

    quirks: frozenset[str] = frozenset()
    """How this Makini differs from its contract (`sandbox.quirks.QUIRKS`); none: not at all."""

    paging: Literal["", "page", "cursor"] = ""
    """The only style of listing spoken; empty: whichever is asked for."""
    since: Literal["", "filter", "modified_after", "none"] = ""
    """What a listing of what changed understands; empty: both."""
    login: Literal["", "new", "prefix", "rename"] = ""
    """What a login at a known connection does; empty: it stays itself (`sandbox.faults`)."""

    webhook_url: str | None = None
    """Base such as `http://127.0.0.1:8642/webhooks/default`; None sends nothing."""
    webhook_secret: str = field(default="sandbox-webhook-secret", repr=False)
    webhook_scheme: Literal["makini", "standard"] = "makini"
    """`standard`: the headers of Standard Webhooks, with a secret such as `whsec_…`."""
    webhook_encoding: Literal["hex", "base64"] = "hex"
    webhook_per_connection: bool = True
    """Record events go to `{webhook_url}/{key}`: they carry no connection of their own."""
    webhook_timeout: float = 10.0
    """Seconds a receiver has for its answer (MAKINI.md, Webhooks)."""
    retry_scale: float = 1.0
    """1.0: first retry after 30 s, growing exponentially, for 24 h; 0.001 for tests."""

    slack_token: str = field(default="xoxb-sandbox", repr=False)
    slack_signing_secret: str = field(default="sandbox-signing-secret", repr=False)
    slack_actions_url: str | None = None
    """Where the buttons of the Slack page post to."""
    slack_rate_limit: bool = False
    """Hold every channel to one message a second, after a burst of five."""
    slack_channels: tuple[str, ...] = ("linekeeper", "alerts", "ops", "general")

    # May be changed while it runs.
    per_minute: int = 0
    """Calls to `/api/` answered in a minute before 429; 0 = no limit."""
    latency_ms: float = 0.0
    """Added to every answer of `/api/` and `/link/`."""

    def __post_init__(self) -> None:
        if not is_loopback(self.host):
            raise ValueError(
                f"The sandbox listens on this machine only, not on {self.host!r}: it gives "
                "tokens to whoever asks. Use 127.0.0.1."
            )
        if not 0 <= self.port <= 65535:
            raise ValueError(f"The sandbox's port must be 0 to 65535, not {self.port}.")
        if self.connections < 0 or self.records_per_connection < 0:
            raise ValueError("The sandbox can't have fewer than 0 connections or records.")
        if unknown := sorted(self.quirks - set(QUIRKS)):
            raise ValueError(f"There is no quirk {unknown[0]!r}; known: {', '.join(QUIRKS)}.")
        if self.demo_speed <= 0 or self.retry_scale <= 0:
            raise ValueError("demo_speed and retry_scale must be above 0.")
