"""What a delivery is: its identity, whose it is, what it says and when; and its row. Pure, total.

Asked only after `verify` accepted the delivery: nobody unknown may occupy an id. The body is the
sender's and may be anything; what can't be read is left out, and an event of which nothing can be
read still has an identity, made from its content.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, NamedTuple, TypeAlias

from linekeeper.config import WebhookScheme
from linekeeper.exact import read_fields
from linekeeper.inbox.meaning import EventNames, rank_of
from linekeeper.inbox.verify import Headers
from linekeeper.store.tables import WebhookEvent
from linekeeper.store.types import table_of
from linekeeper.text import as_stored, readable

_Path: TypeAlias = tuple[str, str | None]
"""A field of the body, or a field of an object in it."""

_HEADER_IDS = (b"x-webhook-id", b"webhook-id", b"svix-id")
_SUFFIX = 32
"""Hexadecimal digits of the body's hash that follow an id of an unsigned header."""
_SIGNED_HEADER_IDS = (b"webhook-id", b"svix-id")
"""Those Standard Webhooks signs: under it no other id counts, or a replay could invent one."""
_BODY_IDS: tuple[_Path, ...] = (("id", None), ("event_id", None), ("eventId", None))
_CONNECTIONS: tuple[_Path, ...] = (
    ("connection_id", None),
    ("connectionId", None),
    ("connection", "id"),
    ("connection", "key"),
    ("connection", None),
    ("integration_id", None),
    ("integrationId", None),
)
_NAMES: tuple[_Path, ...] = (
    ("event", None),
    ("type", None),
    ("event_type", None),
    ("eventType", None),
    ("event", "type"),
    ("event", "name"),
)
_TIMES: tuple[_Path, ...] = (
    ("timestamp", None),
    ("occurred_at", None),
    ("occurredAt", None),
    ("event_at", None),
    ("created_at", None),
    ("createdAt", None),
    ("time", None),
)
_ASKED = frozenset(name for name, _ in (*_BODY_IDS, *_CONNECTIONS, *_NAMES, *_TIMES))
"""All that a delivery is known by; nothing else of a body is looked at before it is stored."""
_KEYS = ("body", "data", "keys", "records")
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
_MILLISECONDS_FROM = 100_000_000_000
"""Above it a Unix time is in milliseconds (in seconds it would be the year 5138)."""


class DeliveryIdentity(NamedTuple):
    """What one delivery is."""

    delivery_id: str | None
    """The sender's id as it is stored; None where it gave none."""
    content_key: str
    """Made of app, connection of the URL and body; empty where there is a delivery id."""
    connection_ref: str | None
    url_connection: str | None
    event: str | None
    """Its name, readable; it means what the name that was sent does."""
    kind: str
    entity: str | None
    event_at: datetime | None
    """Aware, UTC, never after the time of receipt: a sender's clock that runs ahead would
    otherwise outrank everything that really comes later."""

    @property
    def rank(self) -> int:
        """0 for what is about a connection: applied before what is about records, 1."""
        return rank_of(self.kind)


def identify(
    app: str,
    names: EventNames,
    headers: Headers,
    url_connection: str | None,
    body: bytes,
    *,
    now: datetime,
    scheme: WebhookScheme = "makini",
) -> DeliveryIdentity:
    """What the verified delivery `body` to `app` is; `now` is the time of receipt, aware."""
    payload = read_fields(body, _ASKED)
    of_url = as_stored(url_connection) if url_connection else None
    delivery_id = _delivery_id(headers, payload, body, scheme)
    event = _text_at(payload, _NAMES)
    kind, entity = names.meaning(event)
    return DeliveryIdentity(
        delivery_id,
        "" if delivery_id else _content_key(app, url_connection, body),
        _stored_at(payload, _CONNECTIONS) or of_url,
        of_url,
        readable(event) if event else None,
        kind,
        entity if entity is None else as_stored(entity),
        _time_at(payload, now),
    )


def record_keys(payload: Any) -> list[str]:
    """The record keys a payload lists, each once, in its order; empty where it lists none.

    Makini lists plain keys under `body` (Makini docs); objects with a `key` or `id` count too.
    One that stands alone counts where there is no list. A key is text with its
    leading zeros; a number is taken as it is written.
    """
    if not isinstance(payload, dict):
        return []
    for name in _KEYS:
        value = payload.get(name)
        if isinstance(value, dict):
            value = [value]
        if isinstance(value, list):
            keys = (_key(item) for item in value)
            return list(dict.fromkeys(key for key in keys if key))
    lone = (_scalar(payload.get(name)) for name in _KEYS)
    return [key for key in lone if key][:1]


def _delivery_id(headers: Headers, payload: Any, body: bytes, scheme: WebhookScheme) -> str | None:
    """The sender's id: a signed one as it is, an unsigned one together with what was signed.

    Whoever captured a delivery may post it again under any unsigned header. Such an id must not
    occupy that of another delivery, nor make a new one of a body that has an id of its own.
    """
    if scheme == "standard":
        return _header_id(headers, _SIGNED_HEADER_IDS) or _stored_at(payload, _BODY_IDS)
    if signed := _stored_at(payload, _BODY_IDS):
        return signed
    unsigned = _header_id(headers, _HEADER_IDS)
    return f"{unsigned}#{sha256(body).hexdigest()[:_SUFFIX]}" if unsigned else None


def _header_id(headers: Headers, names: Iterable[bytes]) -> str | None:
    for name in names:
        value = headers.get(name)
        if value and not value.isspace():
            try:
                return as_stored(value.decode())
            except UnicodeDecodeError:
                return as_stored(value.decode("latin-1"))
    return None


def _content_key(app: str, url_connection: str | None, body: bytes) -> str:
    connection = (url_connection or "").encode("utf-8", "surrogatepass")
    return sha256(b"%b\n%d\n%b\n%b" % (app.encode(), len(connection), connection, body)).hexdigest()


def _value(payload: Any, path: _Path) -> Any:
    name, inner = path
    value = payload.get(name)
    if inner is not None:
        return value.get(inner) if isinstance(value, dict) else None
    return value


def _text_at(payload: Any, paths: Iterable[_Path]) -> str | None:
    if isinstance(payload, dict):
        for path in paths:
            if text := _scalar(_value(payload, path)):
                return text
    return None


def _stored_at(payload: Any, paths: Iterable[_Path]) -> str | None:
    text = _text_at(payload, paths)
    return None if text is None else as_stored(text)


def _scalar(value: Any) -> str:
    """Text or a whole number as text; empty for anything else and for blanks."""
    if isinstance(value, str):
        return "" if not value or value.isspace() else value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return ""


def _key(item: Any) -> str:
    if isinstance(item, dict):
        return _scalar(item.get("key")) or _scalar(item.get("id"))
    return _scalar(item)


def _time_at(payload: Any, now: datetime) -> datetime | None:
    if isinstance(payload, dict):
        for path in _TIMES:
            value = _value(payload, path)
            time = None if value is None else _time(value)
            if time is not None and time >= _EARLIEST:
                return min(time, now)
    return None


def _time(value: Any) -> datetime | None:
    """ISO-8601 (UTC where it names no zone) or a Unix time in seconds or milliseconds."""
    try:
        if isinstance(value, str):
            if not value.replace(".", "", 1).isdecimal():
                parsed = datetime.fromisoformat(value)
                return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).astimezone(UTC)
            value = float(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        seconds = value / 1000 if value > _MILLISECONDS_FROM else value
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    except (ValueError, OverflowError):
        return None


def ordering_key_of(app: str, connection_ref: str | None, event_id: str) -> str:
    """The order of an event as it comes: that of its connection, where it names one."""
    return event_id if connection_ref is None else f"{app}/{connection_ref}"


def aside_of(ordering_key: str, entity: str) -> str:
    """The order in which events wait that came in `ordering_key`, while `entity` can't be read.

    What came for the connection's other entities passes them.
    """
    return f"{ordering_key}#{entity}"


def aside_key(app: str, connection_ref: str | None, entity: str | None) -> str | None:
    """The same of one event; None where it waits for nothing that others could wait for."""
    if connection_ref is None or entity is None:
        return None
    return aside_of(f"{app}/{connection_ref}", entity)


class Delivery(NamedTuple):
    """The columns of a new row, in the order the writers insert them."""

    id: str
    app: str
    delivery_key: str
    merge_key: str | None
    connection_ref: str | None
    url_connection: str | None
    event: str | None
    kind: str
    entity: str | None
    event_at: datetime | None
    ordering_key: str
    rank: int
    received_at: datetime
    headers: bytes | None
    body: bytes

    def __repr__(self) -> str:
        return f"Delivery(id={self.id!r}, app={self.app!r}, size={len(self.body)})"


COLUMNS = tuple(table_of(WebhookEvent).c[name].name for name in Delivery._fields)
"""What the fields of a `Delivery` are called in the database, in their order."""


class Receipt(NamedTuple):
    """What became of a delivery: the id of its row, and whether that row is new."""

    id: str
    is_new: bool
    connection_ref: str | None = None
    """Whose a row is that was there before."""


def make_delivery(
    id: str,
    app: str,
    identity: DeliveryIdentity,
    body: bytes,
    *,
    received_at: datetime,
    headers: bytes | None = None,
) -> Delivery:
    """The row for a delivery; `id` is a new UUIDv7, `headers` what `keep_headers` kept.

    Without a sender's id its key is its own, and it merges by content with a row nobody has
    claimed yet (DESIGN "A webhook is a hint").
    """
    ref = identity.connection_ref
    return Delivery(
        id=id,
        app=app,
        delivery_key=identity.delivery_id or f"content:{id}",
        merge_key=identity.content_key or None,
        connection_ref=ref,
        url_connection=identity.url_connection,
        event=identity.event,
        kind=identity.kind,
        entity=identity.entity,
        event_at=identity.event_at,
        ordering_key=ordering_key_of(app, ref, id),
        rank=identity.rank,
        received_at=received_at,
        headers=headers,
        body=body,
    )
