"""What an incident or a transition sets going, as rows of the outbox (INTERFACE "Events")."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from slugify import slugify

from linekeeper.outbox.queue import Message
from linekeeper.store import new_id
from linekeeper.text import shown

RECONNECT = "reconnect"
"""The channel by which health says that an incident may need a customer."""
RELATED_LIMIT = 90
"""Prefect refuses an event with more than 100 related resources."""

_INCIDENT_EVENTS: Mapping[str, str] = {
    "opened": "opened",
    "reopened": "opened",
    "acknowledged": "acknowledged",
    "resolved": "resolved",
    "merged": "resolved",
}
"""What is over has an event that says so: `what` of its payload tells the two apart."""


@dataclass(frozen=True, slots=True)
class About:
    """A connection as an event names it."""

    connection_id: str
    name: str
    provider: str = ""
    customer_id: str | None = None
    customer: str | None = None


@dataclass(frozen=True, slots=True)
class IncidentFacts:
    """An incident as an event names it."""

    id: str
    kind: str
    scope: str
    app: str
    provider: str
    title: str
    status: str
    revision: int


def incident_event(
    incident: IncidentFacts, what: str, members: Sequence[About], text: str, *, now: datetime
) -> Message | None:
    """`linekeeper.incident.{opened,acknowledged,resolved}`; None for changes without an event."""
    named = _INCIDENT_EVENTS.get(what)
    if named is None:
        return None
    resource = f"linekeeper.incident.{incident.id}"
    payload = {
        "incident": incident.id,
        "kind": incident.kind,
        "scope": incident.scope,
        "app": incident.app,
        "status": incident.status,
        "revision": incident.revision,
        "what": what,
        "connections": [member.connection_id for member in members[:RELATED_LIMIT]],
        "text": text,
    }
    return _row(
        key=f"event:{resource}:{incident.revision}:{named}",
        name=f"linekeeper.incident.{named}",
        occurred=now,
        resource={
            "prefect.resource.id": resource,
            "prefect.resource.name": shown(incident.title),
            "linekeeper.kind": incident.kind,
            "linekeeper.app": incident.app,
        },
        related=_related(members, [incident.provider], with_connections=True),
        payload=payload,
    )


def request_reconnect_at(incident_id: str, at: datetime) -> Message:
    """A row that has the case of an incident advanced at `at`, in order with its like alone.

    Its key is the very moment: a look in the minute for which another was planned plans its own.
    """
    ordering_key = planned_ordering_key(incident_id)
    key = f"{ordering_key}:{at:%Y%m%d%H%M%S%f}"
    return Message(RECONNECT, key, {"incident_id": incident_id}, ordering_key, not_before=at)


def planned_ordering_key(incident_id: str) -> str:
    """The ordering key of the looks at an incident's case that are planned."""
    return f"reconnect:{incident_id}:at"


def reconnect_ordering_key(incident_id: str) -> str:
    """The ordering key of the looks at an incident's case that are due at once."""
    return f"reconnect:{incident_id}"


def request_reconnects(incident_ids: Iterable[str]) -> list[Message]:
    """Rows that have the case of each incident advanced; a repeat is harmless.

    What is asked, of whom and by which link is worked out moments later, from the incident as it
    is then (`linekeeper.reconnect.ask`); the row is written in the incident's own transaction.
    """
    return [
        Message(
            RECONNECT,
            f"reconnect:{incident_id}:{new_id()}",
            {"incident_id": incident_id},
            ordering_key=reconnect_ordering_key(incident_id),
        )
        for incident_id in dict.fromkeys(incident_ids)
    ]


def connection_event(
    about: About,
    *,
    transition_id: str,
    health: str,
    before: str,
    source: str,
    occurred: datetime,
) -> Message:
    """`linekeeper.connection.<health>` for one transition; its id is the transition's."""
    resource = f"linekeeper.connection.{about.connection_id}"
    return _row(
        key=f"event:transition:{transition_id}",
        name=f"linekeeper.connection.{health}",
        occurred=occurred,
        resource={
            "prefect.resource.id": resource,
            "prefect.resource.name": _name(about.name),
            "linekeeper.health": health,
        },
        related=_related([about], [], with_connections=False),
        payload={"before": before, "after": health, "source": source},
        event_id=transition_id,
    )


def _row(
    *,
    key: str,
    name: str,
    occurred: datetime,
    resource: dict[str, str],
    related: list[dict[str, str]],
    payload: dict[str, Any],
    event_id: str | None = None,
) -> Message:
    fields: dict[str, Any] = {
        "name": name,
        "occurred": occurred.isoformat(),
        "resource": resource,
        "related": related,
        "payload": payload,
    }
    if event_id is not None:
        fields["id"] = event_id
    ordering_key = f"event:{resource['prefect.resource.id']}"
    return Message("event", key, payload=fields, ordering_key=ordering_key)


def _related(
    members: Iterable[About], providers: Iterable[str], *, with_connections: bool
) -> list[dict[str, str]]:
    """Providers and customers first, so that a cut loses connections rather than them."""
    members = list(members)
    rows = [
        *(
            _related_to("provider", _slug(p), p)
            for p in (*providers, *(m.provider for m in members))
        ),
        *(
            _related_to("customer", m.customer_id, m.customer or m.customer_id)
            for m in members
            if m.customer_id is not None
        ),
    ]
    if with_connections:
        rows += [_related_to("connection", m.connection_id, m.name) for m in members]
    once = {row["prefect.resource.id"]: row for row in rows if row is not None}
    return list(once.values())[:RELATED_LIMIT]


@lru_cache(maxsize=4_096)
def _name(raw: str) -> str:
    """A fleet's names come again with each of its transitions."""
    return shown(raw)


@lru_cache(maxsize=1_024)
def _slug(provider: str) -> str:
    return slugify(provider)


def _related_to(role: str, identifier: str, name: str) -> dict[str, str] | None:
    if not identifier:
        return None
    return {
        "prefect.resource.id": f"linekeeper.{role}.{identifier}",
        "prefect.resource.role": role,
        "prefect.resource.name": _name(name),
    }
