"""What the product is told, for each claimed row of channel `forward`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.config import AppConfig
from linekeeper.inbox.headers import RawHeaders, kept_headers, signature_of
from linekeeper.outbox.forward import change_message, destination_of, event_message, signed_headers
from linekeeper.outbox.forward_original import address, change_body, change_headers, makini_headers
from linekeeper.outbox.sender import OutboxRow
from linekeeper.store import Store
from linekeeper.store.payloads import open_payload
from linekeeper.store.tables import Connection, WebhookEvent


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


async def read_messages(
    store: Store, rows: Sequence[OutboxRow], apps: Mapping[str, AppConfig]
) -> tuple[list[Outgoing], list[str]]:
    """What to say for each of `rows`, in order, and the ids of rows whose event is gone."""
    as_makini = {name for name, app in apps.items() if app.forward_form == "original"}
    wanted = [row.payload["event"] for row in rows if "event" in row.payload]
    async with store.read() as session:
        found = await session.execute(
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
            .where(col(WebhookEvent.id).in_(wanted))
        )
        events = {row.id: row for row in found}
        named = [row.payload["connection"] for row in rows if "connection" in row.payload]
        makini_keys = await _makini_keys(session, named)
        signatures = {
            name: await _signature_of(session, apps[name].name) for name in sorted(as_makini)
        }
    messages, gone = [], []
    for row in rows:
        payload, app = row.payload, destination_of(row.lane)
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
