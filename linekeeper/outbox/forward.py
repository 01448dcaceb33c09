"""Handing on to the operator's product: what goes into the outbox, and what is said (MISSION A1).

One message for each accepted delivery and each change the webhooks missed, signed as Standard
Webhooks lay down (standardwebhooks.com), in order for each connection.
"""

import base64
import binascii
import codecs
import hmac
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import orjson
from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.config import AppConfig
from linekeeper.exact import read
from linekeeper.inbox.claim import Event, Settled
from linekeeper.inbox.identify import ordering_key_of, record_keys
from linekeeper.inbox.meaning import RECORD_KINDS
from linekeeper.outbox.queue import Message, enqueue
from linekeeper.store import Store
from linekeeper.store.tables import ConnectionSetting

CHANNEL = "forward"
OVERDUE_SECONDS = 900.0
"""A message that has waited so long for the product is trouble."""
REFUSED_SECONDS = 300.0
"""The same of one that the product refuses, time after time."""
UNTAKEN = {
    "forward_refused": timedelta(seconds=REFUSED_SECONDS),
    "forward_behind": timedelta(seconds=OVERDUE_SECONDS),
}
"""Kinds of incidents in which the product takes no messages, and how long a message has waited at
the least when each is opened."""
BEGAN = "began"
"""Where such an incident says in its detail since when the product took nothing. None: nothing that
waits was tried, as where no consumer runs, which says nothing of the product. One of version 0.1
says nothing at all."""


@dataclass(frozen=True, slots=True)
class RecoveredChange:
    """A change that no webhook brought."""

    id: str
    connection_id: str
    makini_key: str
    entity: str
    key: str
    op: str
    """`inserted`, `updated`, `deleted` or `rekeyed`."""
    at: datetime
    """The source's time, or when it was found; aware, UTC."""
    old_key: str | None = None
    """The key that a `rekeyed` record had in the connection before."""


class AcceptedForward(NamedTuple):
    """An accepted delivery, and what became of it."""

    app: AppConfig
    event: Event
    settled: Settled


async def forward_events(
    store: Store, session: AsyncSession, events: Sequence[AcceptedForward], *, now: datetime
) -> None:
    """Hand on `events` in the transaction that settles them.

    Their apps forward something. Once for each event, or for each of the
    connections that one without a connection turned out to be about; a replay is said again, under
    the id of the event it repeats. A connection may have a target of its own.
    """
    ids = {owner for each in events for owner in each.settled.connections}
    targets = await _targets(session, sorted(ids)) if ids else {}
    messages = [
        message
        for each in events
        for message in _messages(each, targets)
        if _is_known(each.app, message)
    ]
    await enqueue(store, session, messages, now=now)


def _is_known(app: AppConfig, message: Message) -> bool:
    """Whether it has an address: its own target, or the one for all. Pure."""
    return bool(app.forward_url) or message.destination != app.name


_TARGETS = select(col(ConnectionSetting.connection_id), col(ConnectionSetting.forward_to)).where(
    col(ConnectionSetting.connection_id).in_(bindparam("ids", expanding=True)),
    col(ConnectionSetting.forward_to).is_not(None),
)


async def _targets(session: AsyncSession, ids: Sequence[str]) -> dict[str, str]:
    """The forwarding targets of those of the connections `ids` that have one."""
    rows = await session.execute(_TARGETS, {"ids": ids})
    return {row[0]: row[1] for row in rows if row[1]}


def _messages(accepted: AcceptedForward, targets: Mapping[str, str]) -> Iterator[Message]:
    app, event, settled = accepted
    to = {owner: _destination(app, targets.get(owner)) for owner in settled.connections}
    if len(settled.owners) < 2 or app.forward_form == "original":
        payload: dict[str, Any] = {"event": event.id}
        for keys in settled.owners.values():
            payload["keys"] = list(keys)
        for number, destination in enumerate(dict.fromkeys(to.values()) or [app.name]):
            key = f"{CHANNEL}:{event.id}" + (f":{destination}" if number else "")
            of = settled.connection_id or ordering_key_of(event.app, event.connection_ref, event.id)
            yield Message(
                CHANNEL,
                key,
                payload,
                _ordering_key(destination, of),
                subject=settled.connection_id,
                app=app.name,
                destination=destination,
            )
        return
    for connection_id, keys in sorted(settled.owners.items()):
        yield Message(
            CHANNEL,
            f"{CHANNEL}:{event.id}:{connection_id}",
            {"event": event.id, "connection": connection_id, "keys": list(keys)},
            _ordering_key(to[connection_id], connection_id),
            subject=connection_id,
            app=app.name,
            destination=to[connection_id],
        )


def _destination(app: AppConfig, target: str | None) -> str:
    return app.model_copy(update={"forward_to": target}).destination if target else app.name


async def forward_changes(
    store: Store,
    session: AsyncSession,
    app: AppConfig,
    changes: Sequence[RecoveredChange],
    *,
    now: datetime,
) -> None:
    """Hand on what the webhooks missed, in the transaction that finds it; each change once."""
    if not (app.forward_url or app.forward_to):
        return
    await enqueue(
        store,
        session,
        [
            Message(
                CHANNEL,
                f"{CHANNEL}:{change.id}",
                {
                    "change": change.id,
                    "type": f"record.{change.op}",
                    "timestamp": stamp(change.at),
                    "data": {
                        "connection": change.connection_id,
                        "makini_key": change.makini_key,
                        "entity": change.entity,
                        "keys": [change.key],
                        "recovered": True,
                        **({"old_key": change.old_key} if change.old_key is not None else {}),
                    },
                },
                _ordering_key(app.destination, change.connection_id),
                subject=change.connection_id,
                app=app.name,
                destination=app.destination,
            )
            for change in changes
        ],
        now=now,
    )


def event_message(
    *,
    kind: str,
    at: datetime,
    connection_id: str | None,
    makini_key: str | None,
    entity: str | None,
    body: bytes | None,
    keys: Sequence[str] | None = None,
) -> bytes:
    """The body a delivery is handed on with (INTERFACE "Bodies").

    `keys` are those of the connection, where not all of the body's are. `original` is Makini's JSON
    byte for byte, left out where it is none. Pure: every attempt sends the same bytes.
    """
    data: dict[str, Any] = {"connection": connection_id, "makini_key": makini_key}
    payload = read(body) if body is not None else None
    if kind in RECORD_KINDS:
        named = record_keys(payload) if keys is None else keys
        data |= {"entity": entity, "keys": orjson.Fragment(as_json(list(named)))}
    data["recovered"] = False
    if body is not None and payload is not None:
        data["original"] = orjson.Fragment(body.removeprefix(codecs.BOM_UTF8))
    return orjson.dumps({"type": kind, "timestamp": stamp(at), "data": data})


def as_json(value: Any) -> bytes:
    """JSON of what a sender's JSON held: also of lone surrogates, which stay escaped."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value).encode()


def change_message(payload: dict[str, Any]) -> bytes:
    """The body a recovered change is handed on with, from its outbox row."""
    return orjson.dumps({name: payload[name] for name in ("type", "timestamp", "data")})


def signed_headers(identity: str, body: bytes, secret: str, *, now: datetime) -> dict[str, str]:
    """Headers of one attempt; without a secret there is nothing to sign with, so no signature.

    `secret` is `whsec_` and base64, or any text, which then is the key itself.
    """
    seconds = str(int(now.timestamp()))
    headers = {
        "content-type": "application/json",
        "webhook-id": identity,
        "webhook-timestamp": seconds,
    }
    if key := signing_key(secret):
        content = b"%b.%b.%b" % (identity.encode(), seconds.encode(), body)
        signature = base64.b64encode(hmac.digest(key, content, "sha256")).decode()
        headers["webhook-signature"] = f"v1,{signature}"
    return headers


def signing_key(secret: str) -> bytes:
    """The bytes a configured secret stands for."""
    if secret.startswith("whsec_"):
        text = secret.removeprefix("whsec_").rstrip("=")
        try:
            return binascii.a2b_base64(text + "=" * (-len(text) % 4))
        except (binascii.Error, ValueError):
            return secret.encode()
    return secret.encode("utf-8", "surrogatepass")


def stamp(at: datetime) -> str:
    """A time as it is sent: ISO-8601, UTC, `Z`."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _ordering_key(destination: str, of: str) -> str:
    return f"{CHANNEL}:{destination}/{of}"
