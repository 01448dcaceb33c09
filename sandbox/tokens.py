"""Tokens and authorization codes, and when they die."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from .fleet import Connection

ACCESS_SECONDS = 30 * 86_400
REFRESH_SECONDS = 31 * 86_400
MINTED_SECONDS = 300
ADMIN_SECONDS = 3_600
CODE_SECONDS = 600


@dataclass(slots=True)
class Token:
    """An access or refresh token; without a connection it is the admin's."""

    value: str = field(repr=False)
    connection: Connection | None
    expires_at: float
    partner: str | None = field(default=None, repr=False)
    """The other half of a pair."""


@dataclass(slots=True, frozen=True)
class Pair:
    """What the customer's login or a refresh gives; `expires_at` is of the access token."""

    access: str = field(repr=False)
    refresh: str = field(repr=False)
    expires_at: int


@dataclass(slots=True, frozen=True)
class _Code:
    connection: Connection
    redirect_uri: str
    expires_at: float


class Tokens:
    """All tokens of all connections. Times are seconds since 1970 from `clock`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.access: dict[str, Token] = {}
        self._refresh: dict[str, Token] = {}
        self._codes: dict[str, _Code] = {}
        self._of: dict[str, set[str]] = {}

    def admin(self) -> tuple[str, int]:
        """A token for the Admin API and the second at which it expires."""
        return self._remember("adm_", None, ADMIN_SECONDS)

    def is_admin(self, value: str) -> bool:
        token = self.access.get(value)
        return token is not None and token.connection is None and self._alive(token)

    def owner(self, value: str) -> Connection | None:
        """Whose access token this is, unless it expired or was killed."""
        token = self.access.get(value)
        return token.connection if token is not None and self._alive(token) else None

    def mint(self, connection: Connection) -> tuple[str, int]:
        """A five-minute token beside whatever else the connection has."""
        return self._remember("mnt_", connection, MINTED_SECONDS)

    def pair(self, connection: Connection) -> Pair:
        """A new pair; those of before are dead."""
        self.kill(connection)
        access, expires_at = self._remember("acc_", connection, ACCESS_SECONDS)
        refresh = "ref_" + secrets.token_urlsafe(24)
        self.access[access].partner = refresh
        self._refresh[refresh] = Token(refresh, connection, self._clock() + REFRESH_SECONDS, access)
        return Pair(access, refresh, expires_at)

    def refresh(self, value: str) -> Pair | None:
        """A new pair for a refresh token that lives; the old pair is dead afterwards."""
        token = self._refresh.get(value)
        if token is None or token.connection is None or not self._alive(token):
            return None
        return self.pair(token.connection)

    def refresh_owner(self, value: str) -> Connection | None:
        token = self._refresh.get(value)
        return token.connection if token is not None else None

    def code(self, connection: Connection, redirect_uri: str) -> str:
        """A single-use code, as the customer's browser carries it."""
        value = "cod_" + secrets.token_urlsafe(18)
        self._codes[value] = _Code(connection, redirect_uri, self._clock() + CODE_SECONDS)
        return value

    def redeem(self, code: str, redirect_uri: str) -> Connection | None:
        """The connection a code was made for; a code is gone after the first attempt."""
        known = self._codes.pop(code, None)
        if known is None or known.expires_at <= self._clock():
            return None
        return known.connection if known.redirect_uri == redirect_uri else None

    def current(self, connection: Connection) -> Pair | None:
        for value in self._of.get(connection.key, ()):
            token = self.access[value]
            if token.partner is not None and self._alive(token):
                return Pair(value, token.partner, int(token.expires_at))
        return None

    def expire(self, connection: Connection, *, refresh: bool) -> None:
        """Access tokens of the connection end now; its refresh token only if asked."""
        now = self._clock()
        for value in self._of.get(connection.key, ()):
            token = self.access[value]
            token.expires_at = min(token.expires_at, now)
            partner = self._refresh.get(token.partner or "")
            if refresh and partner is not None:
                partner.expires_at = min(partner.expires_at, now)

    def kill(self, connection: Connection) -> None:
        """Every token of the connection is forgotten."""
        for value in self._of.pop(connection.key, ()):
            self._refresh.pop(self.access.pop(value).partner or "", None)

    def kept(self) -> tuple[dict[str, Token], dict[str, Token], dict[str, set[str]]]:
        """Everything but codes, which are too short-lived to keep."""
        return self.access, self._refresh, self._of

    def bring_back(
        self, kept: tuple[dict[str, Token], dict[str, Token], dict[str, set[str]]]
    ) -> None:
        self.access, self._refresh, self._of = kept

    def _alive(self, token: Token) -> bool:
        return token.expires_at > self._clock()

    def _remember(
        self, prefix: str, connection: Connection | None, seconds: int
    ) -> tuple[str, int]:
        mine = self._of.setdefault(connection.key if connection else "", set())
        for old in [v for v in mine if self._over(self.access[v])]:
            mine.discard(old)
            del self.access[old]
        value = prefix + secrets.token_urlsafe(24)
        expires_at = int(self._clock()) + seconds
        self.access[value] = Token(value, connection, expires_at)
        mine.add(value)
        return value, expires_at

    def _over(self, token: Token) -> bool:
        partner = self._refresh.get(token.partner or "")
        return not self._alive(token) and (partner is None or not self._alive(partner))
