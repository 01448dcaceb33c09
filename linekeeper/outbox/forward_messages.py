"""What the product is told, for each claimed row of channel `forward`."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import RowMapping, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.outbox.forward import change_message, event_message, lane_prefix
from linekeeper.store import Store
from linekeeper.store.tables import Connection, WebhookEvent


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message as it is posted, the same at every attempt."""

    row: RowMapping
    app: str
    id: str
    """The `webhook-id`: of the event (of the first, for a replay) or the change. Where an event is
    handed on once for each of several connections, the connection's id follows."""
    body: bytes


async def read_messages(
    store: Store, rows: Sequence[RowMapping]
) -> tuple[list[Outgoing], list[str]]:
    """What to say for each of `rows`, in order, and the ids of rows whose event is gone."""
    wanted = [row["payload"]["event"] for row in rows if "event" in row["payload"]]
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
                col(Connection.makini_key),
            )
            .outerjoin(Connection, col(Connection.id) == col(WebhookEvent.connection_id))
            .where(col(WebhookEvent.id).in_(wanted))
        )
        events = {row.id: row for row in found}
        named = [row["payload"]["connection"] for row in rows if "connection" in row["payload"]]
        makini_keys = await _makini_keys(session, named)
    messages, gone = [], []
    for row in rows:
        payload = row["payload"]
        if "change" in payload:
            app = row["lane"].removeprefix(lane_prefix("")[:-1]).partition("/")[0]
            messages.append(Outgoing(row, app, payload["change"], change_message(payload)))
        elif event := events.get(payload["event"]):
            connection_id = payload.get("connection")
            body = event_message(
                kind=event.kind,
                at=event.event_at or event.received_at,
                connection_id=connection_id or event.connection_id,
                makini_key=makini_keys.get(connection_id, event.makini_key),
                entity=event.entity,
                body=event.body,
                keys=payload.get("keys"),
            )
            identity = event.replay_of or event.id
            if connection_id is not None:
                identity = f"{identity}-{connection_id}"
            messages.append(Outgoing(row, event.app, identity, body))
        else:
            gone.append(row["id"])
    return messages, gone


async def _makini_keys(session: AsyncSession, ids: Sequence[str]) -> dict[str, str]:
    if not ids:
        return {}
    rows = await session.execute(
        select(col(Connection.id), col(Connection.makini_key)).where(col(Connection.id).in_(ids))
    )
    return {row.id: row.makini_key for row in rows}
