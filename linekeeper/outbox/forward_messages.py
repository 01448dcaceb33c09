"""What the product is sent, for each claimed row of channel `forward`.

Also as Makini sends (`FORWARD_FORM` `original`): its body and headers byte for byte, so that a
product that takes Makini's webhooks goes on with the receiver it has. What the webhooks missed
comes in Makini's form too, signed with Makini's secret, and is marked by a header.
"""

import base64
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

import orjson
from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.config import AppConfig
from linekeeper.inbox.headers import RawHeaders, kept_headers, signature_of
from linekeeper.outbox.about import destination_of
from linekeeper.outbox.forward import change_message, event_message, signed_headers
from linekeeper.outbox.sender import OutboxRow
from linekeeper.store import Store
from linekeeper.store.bodies import open_payload
from linekeeper.store.tables import Connection, WebhookEvent

RECOVERED = "x-linekeeper-recovered"
CONNECTION = "x-linekeeper-connection"
OLD_KEY = "x-linekeeper-old-key"
PLACEHOLDER = "{connection}"
"""What stands in a forward URL for Makini's key of the connection, as in Makini's own URLs."""
_HEX = re.compile(r"(sha256=)?[0-9a-fA-F]{64}")
_OPS = {"inserted": "inserted", "updated": "updated", "deleted": "deleted", "rekeyed": "updated"}


def change_body(data: Mapping[str, Any], op: str) -> bytes:
    """A recovered change as Makini would have said it: `{"event": "assets.updated", "body": […]}`.

    Makini has no word for a record whose key was renamed: it is `updated`, under its new key.
    """
    entity = str(data["entity"]).rpartition("/")[2]
    return orjson.dumps({"event": f"{entity}.{_OPS.get(op, op)}", "body": data["keys"]})


def change_headers(data: Mapping[str, Any]) -> RawHeaders:
    """What marks a recovered change, and says what Makini's form has no place for."""
    headers = [(RECOVERED, "true"), (CONNECTION, str(data["makini_key"]))]
    if data.get("old_key") is not None:
        headers.append((OLD_KEY, str(data["old_key"])))
    return [(name.encode(), quote(value, safe="").encode()) for name, value in headers]


def makini_headers(
    app: AppConfig, identity: str, body: bytes, *, seen_signature: str, now: datetime
) -> RawHeaders:
    """Headers that Makini would have sent with `body`, signed with its first webhook secret.

    `seen_signature` is one it did send: where that is no hex, ours is base64 too.
    """
    secret = next((value.get_secret_value() for value in app.webhook_secrets), "")
    if app.webhook_scheme == "standard":
        signed = signed_headers(identity, body, secret, now=now)
        return [(name.encode(), value.encode()) for name, value in signed.items()]
    headers: RawHeaders = [(b"content-type", b"application/json")]
    if secret:
        digest = hmac.digest(secret.encode("utf-8", "surrogatepass"), body, "sha256")
        is_hex = not seen_signature or _HEX.fullmatch(seen_signature) is not None
        text = digest.hex() if is_hex else base64.b64encode(digest).decode()
        prefix = "sha256=" if seen_signature.startswith("sha256=") else ""
        headers.append((b"x-webhook-signature", f"{prefix}{text}".encode()))
    return headers


def address(url: str, makini_key: str | None) -> str:
    """The forward URL with the connection in its place, if it has one."""
    return url.replace(PLACEHOLDER, quote(makini_key or "", safe=""))


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message as it is posted, the same at every attempt."""

    row: OutboxRow
    app: str
    """Its destination: the app, or one of its targets."""
    id: str
    """The `webhook-id`: of the event (of the first, for a replay) or the change. Where an event is
    handed on once for each of several connections, the connection's id follows."""
    body: bytes
    makini_key: str | None = None
    headers: RawHeaders | None = None
    """Makini's own, or what marks a recovered change; None for the envelope."""
    is_complete: bool = False
    """Whether `headers` are all there is to send: those Makini sent with this body."""
    seen_signature: str = ""
    """One that Makini sent: what its signatures are encoded in can be seen in it."""


_EVENTS = (
    select(
        col(WebhookEvent.id),
        col(WebhookEvent.app),
        col(WebhookEvent.replay_of),
        col(WebhookEvent.kind),
        col(WebhookEvent.event_at),
        col(WebhookEvent.received_at),
        col(WebhookEvent.connection_id),
        col(WebhookEvent.entity),
        col(WebhookEvent.body),
        col(WebhookEvent.headers),
        col(Connection.makini_key),
    )
    .outerjoin(Connection, col(Connection.id) == col(WebhookEvent.connection_id))
    .where(col(WebhookEvent.id).in_(bindparam("ids", expanding=True)))
)


async def read_messages(
    store: Store, rows: Sequence[OutboxRow], apps: Mapping[str, AppConfig]
) -> tuple[list[Outgoing], list[str]]:
    """What to say for each of `rows`, in order, and the ids of rows whose event is gone."""
    as_makini = {name for name, app in apps.items() if app.forward_form == "original"}
    wanted = [row.payload["event"] for row in rows if "event" in row.payload]
    async with store.read() as session:
        events = {row.id: row for row in await session.execute(_EVENTS, {"ids": wanted})}
        named = [row.payload["connection"] for row in rows if "connection" in row.payload]
        makini_keys = await _makini_keys(session, named)
        signatures = {
            name: await _signature_of(session, apps[name].name) for name in sorted(as_makini)
        }
    messages, gone = [], []
    for row in rows:
        payload, app = row.payload, destination_of(row.destination, row.ordering_key)
        if "change" in payload:
            messages.append(_change(row, app, payload, signatures.get(app)))
        elif (event := events.get(payload["event"])) and app in as_makini:
            if (content := open_payload(store.cipher, event.body)) is None:
                gone.append(row.id)
                continue
            identity = event.replay_of or event.id
            headers = kept_headers(event.headers)
            messages.append(
                Outgoing(
                    row,
                    app,
                    identity,
                    content,
                    makini_key=event.makini_key,
                    headers=headers,
                    is_complete=bool(headers),
                    seen_signature=signatures[app],
                )
            )
        elif event:
            connection_id: str | None = payload.get("connection")
            body = event_message(
                kind=event.kind,
                at=event.event_at or event.received_at,
                connection_id=connection_id or event.connection_id,
                makini_key=makini_keys.get(connection_id or "", event.makini_key),
                entity=event.entity,
                body=open_payload(store.cipher, event.body),
                keys=payload.get("keys"),
            )
            identity = event.replay_of or event.id
            if connection_id is not None:
                identity = f"{identity}-{connection_id}"
            messages.append(Outgoing(row, app, identity, body))
        else:
            gone.append(row.id)
    return messages, gone


def envelope_of(message: Outgoing, app: AppConfig, *, now: datetime) -> tuple[str, RawHeaders]:
    """The address of one attempt, and its headers. Pure."""
    url = app.forward_url or ""
    if message.headers is None:
        secret = app.forward_secret.get_secret_value()
        signed = signed_headers(message.id, message.body, secret, now=now)
        return url, [(name.encode(), value.encode()) for name, value in signed.items()]
    headers = message.headers
    if not message.is_complete:
        seen = message.seen_signature
        own = makini_headers(app, message.id, message.body, seen_signature=seen, now=now)
        headers = [*own, *headers]
    return address(url, message.makini_key), headers


def _change(
    row: OutboxRow, app: str, payload: dict[str, Any], seen_signature: str | None
) -> Outgoing:
    """A recovered change; `seen_signature` is None where the product gets our envelope."""
    if seen_signature is None:
        return Outgoing(row, app, payload["change"], change_message(payload))
    data, op = payload["data"], payload["type"].rpartition(".")[2]
    return Outgoing(
        row,
        app,
        payload["change"],
        change_body(data, op),
        makini_key=data["makini_key"],
        headers=change_headers(data),
        seen_signature=seen_signature,
    )


async def _signature_of(session: AsyncSession, app: str) -> str:
    """The signature of the last delivery whose headers were kept; empty if there is none."""
    packed = await session.scalar(
        select(col(WebhookEvent.headers))
        .where(col(WebhookEvent.app) == app, col(WebhookEvent.headers).is_not(None))
        .order_by(col(WebhookEvent.id).desc())
        .limit(1)
    )
    return signature_of(kept_headers(packed))


async def _makini_keys(session: AsyncSession, ids: Sequence[str]) -> dict[str, str]:
    if not ids:
        return {}
    rows = await session.execute(
        select(col(Connection.id), col(Connection.makini_key)).where(col(Connection.id).in_(ids))
    )
    return {row.id: row.makini_key for row in rows}
