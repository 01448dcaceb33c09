"""One accepted delivery as it goes into `webhook_event`."""

from datetime import datetime
from typing import NamedTuple

from linekeeper.inbox.identify import Identity


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
    lane: str
    rank: int
    received_at: datetime
    headers: bytes | None
    body: bytes

    def __repr__(self) -> str:
        return f"Delivery(id={self.id!r}, app={self.app!r}, size={len(self.body)})"


class Receipt(NamedTuple):
    """What became of a delivery: the id of its row, and whether that row is new."""

    id: str
    is_new: bool


def make_delivery(
    id: str,
    app: str,
    identity: Identity,
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
        lane=id if ref is None else f"{app}/{ref}",
        rank=identity.rank,
        received_at=received_at,
        headers=headers,
        body=body,
    )
