"""What Makini says, as plain values. Parsing is total: fields may be missing, unknown or odd."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, cast, get_args

import orjson

from linekeeper.makini.errors import ListingFault
from linekeeper.makini.fields import (
    KEY_LIMIT,
    clean,
    connection_key,
    expiry,
    instant,
    mapping,
    text,
)

Lifecycle = Literal["pending", "synchronizing", "in_progress", "active", "inactive", "unknown"]

_LIFECYCLES = {name.replace("_", ""): name for name in get_args(Lifecycle)}
_SEPARATORS = str.maketrans("", "", " _-\t\r\n")
_SYNC_STATUSES = frozenset({"inprogress", "done", "fulldone", "error", "fail"})


class WrongShape(ValueError):
    """The JSON is not what this answer should hold; the message says what is missing."""

    fault: ListingFault | None = None


class BrokenListing(WrongShape):
    """A listing has no end where its source says that it has one; what came of it is true."""

    def __init__(self, fault: ListingFault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class ListedConnection:
    """A connection as `GET /api/system/connections` lists it. Times are UTC.

    `id` is what its status calls it, empty where the list doesn't say: only `key` is documented
    there, and whether the two are the same is not public (MAKINI "Admin API").
    """

    key: str
    id: str = ""
    name: str = ""
    email: str = ""
    status: str = ""
    provider: str = ""
    tags: tuple[str, ...] | None = None
    """None: the list says nothing of them."""
    metadata: dict[str, str] = field(default_factory=dict)
    created_at: datetime | None = None
    updated_at: datetime | None = None
    connected_at: datetime | None = None

    @property
    def lifecycle(self) -> Lifecycle:
        """Return the listed status as one of Makini's five, or `unknown`."""
        return normalise_status(self.status)


@dataclass(frozen=True, slots=True)
class ConnectionPage:
    """One page of the connection list. `total` is how many the list says there are, if it does."""

    connections: Sequence[ListedConnection]
    unnamed: int = 0
    """Entries with neither key nor id: they count in the total and can't be adopted."""
    total: int | None = None


@dataclass(frozen=True, slots=True)
class ConnectionStatus:
    """What a connection says about itself (`GET /api/integrations/current`). Times are UTC.

    `sync_status` is Makini's documented word (`inprogress`, `done`, `fulldone`, `error`, `fail`)
    whatever case and separators it came in; a word nobody knows stays as it came, and a missing
    one is empty. `latency` is in seconds, without the wait for our own budget.
    """

    id: str
    company_name: str
    email: str
    provider: str
    updated_at: datetime | None
    sync_status: str
    sync_updated_at: datetime | None
    request_id: str | None
    latency: float


@dataclass(frozen=True, slots=True)
class TokenPair:
    """Tokens of one connection; secrets stay out of `repr`.

    `minted`: made by the Admin API without the customer, so perhaps a matter of minutes
    (MAKINI "Admin API"); never take it for a thirty-day token. `expires_at` is UTC, None if unsaid.
    """

    access_token: str = field(repr=False)
    refresh_token: str | None = field(default=None, repr=False)
    expires_at: datetime | None = None
    minted: bool = False

    def refreshed_with(self, used: str) -> "TokenPair":
        """What the refresh token `used` gave: it stays where no new one came (RFC 6749, 6)."""
        return self if self.refresh_token else replace(self, refresh_token=used)


@dataclass(frozen=True, slots=True)
class RecordPage:
    """One page of records as Makini sent them, and what it said about the next.

    `has_more`: whether it says that another page follows; None where it says nothing of that.
    """

    records: list[dict[str, Any]]
    next_cursor: str | None = None
    has_more: bool | None = None
    last_page: int | None = None
    total: int | None = None


def normalise_status(status: str) -> Lifecycle:
    """Return Makini's display name of a lifecycle as ours, ignoring case and separators.

    A name nobody knows is `unknown`, which is never healthy (MAKINI "Status").
    """
    word = status.translate(_SEPARATORS).lower()
    return cast("Lifecycle", _LIFECYCLES.get(word, "unknown"))


def normalise_sync_status(status: str) -> str:
    """Return the documented word for a sync status, or the text as it came if there is none."""
    if status in _SYNC_STATUSES:
        return status
    word = status.translate(_SEPARATORS).lower()
    return word if word in _SYNC_STATUSES else status


def parse_metadata(value: object) -> dict[str, str]:
    """Return `user_metadata` as a flat map: it may be JSON text, an object, or a list of pairs."""
    if isinstance(value, str | bytes):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return {}
    if isinstance(value, dict):
        pairs = [(clean(str(name)), content) for name, content in value.items()]
    elif isinstance(value, list):
        pairs = [
            (text(entry.get("key") or entry.get("name")), entry.get("value"))
            for entry in value
            if isinstance(entry, dict)
        ]
    else:
        return {}
    return {name: _flat(content) for name, content in pairs if name and content is not None}


def _flat(content: object) -> str:
    if isinstance(content, bool):
        return "true" if content else "false"
    if isinstance(content, dict | list):
        try:
            return clean(orjson.dumps(content).decode())
        except orjson.JSONEncodeError:  # it reads deeper nesting than it writes
            return ""
    return text(content)


def parse_connection(value: object) -> ListedConnection | None:
    """Return a listed connection, or None when it has neither `key` nor `id`."""
    entry = mapping(value)
    key, identity = connection_key(entry.get("key")), connection_key(entry.get("id"))
    if not (key or identity):
        return None
    tags = entry.get("tags")
    return ListedConnection(
        key=key or identity,
        id=identity,
        name=text(entry.get("name")),
        email=text(entry.get("email")),
        status=text(entry.get("status")),
        provider=clean(
            text(entry.get("integration_name")) or text(entry.get("provider")), KEY_LIMIT
        ),
        tags=_tags(tags),
        metadata=parse_metadata(entry.get("user_metadata")),
        created_at=instant(entry.get("created_at")),
        updated_at=instant(entry.get("updated_at")),
        connected_at=instant(entry.get("connected_at")),
    )


def _tags(value: object) -> tuple[str, ...] | None:
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list):
        return None
    names = (text(tag.get("name")) if isinstance(tag, dict) else text(tag) for tag in value)
    return tuple(name for name in names if name)


def parse_client(value: object) -> str:
    """Return the app's name in an answer, or its id. Raises WrongShape."""
    entry = _data(value)
    name = text(entry.get("name")) or text(entry.get("id"))
    if not name:
        raise WrongShape("no client name in it")
    return name


def parse_record(value: object) -> dict[str, Any] | None:
    """Return the record in an answer, at the top or under `data`; None for null there.

    Raises WrongShape.
    """
    inner = value.get("data", value) if isinstance(value, dict) else value
    if inner is None and isinstance(value, dict):
        return None
    if not isinstance(inner, dict):
        raise WrongShape("no record in it")
    return inner


def parse_status(
    value: object, word: str = "sync_status", *, request_id: str | None, latency: float
) -> ConnectionStatus:
    """Return the status in an answer, at the top or under `data`. Raises WrongShape.

    `word`: the field that says how its sync is; on the older route it is `status`.
    """
    entry = _data(value)
    identity = entry.get("id", entry.get("key"))
    if identity is None and word not in entry:
        raise WrongShape(f"no connection in it (neither id nor {word})")
    return ConnectionStatus(
        id=connection_key(identity),
        company_name=text(entry.get("company_name")),
        email=text(entry.get("email")),
        provider=text(entry.get("provider")),
        updated_at=instant(entry.get("updated_at")),
        sync_status=normalise_sync_status(text(entry.get(word))),
        sync_updated_at=instant(entry.get("sync_updated_at")),
        request_id=request_id,
        latency=latency,
    )


def parse_tokens(value: object, *, now: datetime, minted: bool) -> TokenPair:
    """Return the tokens in an answer: `access_token` or `token`, at the top or under `data`.

    Raises WrongShape when there is none, or one that no HTTP header can carry.
    """
    entry = _data(value)
    access = entry.get("access_token") or entry.get("token")
    if not isinstance(access, str) or not is_token(access):
        raise WrongShape("no usable access_token in it")
    refresh = entry.get("refresh_token")
    return TokenPair(
        access_token=access,
        refresh_token=refresh if isinstance(refresh, str) and is_token(refresh) else None,
        expires_at=expiry(entry.get("expires_in"), now),
        minted=minted,
    )


def is_token(value: str) -> bool:
    """Whether `value` may stand in an Authorization header: printable ASCII without spaces."""
    return bool(value) and value.isascii() and value.isprintable() and " " not in value


def parse_rows(value: object) -> list[dict[str, Any]]:
    """Return what is listed under `data`, or at the top. Raises WrongShape.

    An entry that is no object says nothing, not even its key: it is given as an empty one, so that
    it counts, and leaves the others as they are.
    """
    rows = value.get("data") if isinstance(value, dict) else value
    if not isinstance(rows, list):
        raise WrongShape("no list under data")
    return [row if isinstance(row, dict) else {} for row in rows]


def parse_connections(rows: list[dict[str, Any]]) -> list[ListedConnection]:
    """Return the connections of a page; an entry without `key` and `id` is left out.

    Raises WrongShape when that is every one of them: then it isn't a list of connections.
    """
    connections = [
        connection for connection in map(parse_connection, rows) if connection is not None
    ]
    if rows and not connections:
        raise WrongShape("a list whose entries have neither key nor id")
    return connections


def parse_platforms(value: object) -> set[str]:
    """Return the names and slugs of the systems in an answer. Raises WrongShape."""
    rows = parse_rows(value)
    return {text(row.get(called)) for row in rows for called in ("name", "slug")} - {""}


def _data(value: object) -> Mapping[str, Any]:
    top = mapping(value)
    inner = top.get("data")
    return inner if isinstance(inner, dict) else top
