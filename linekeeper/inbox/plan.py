"""What a record event asks for: reads of some connections' records, or nothing more. Pure."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from linekeeper.config import AppConfig
from linekeeper.inbox.claim import Event, Settled
from linekeeper.inbox.identify import read, record_keys
from linekeeper.inbox.kinds import RECORD_KINDS
from linekeeper.inbox.routing import Target
from linekeeper.makini import may_call_data


class Ask(NamedTuple):
    """Records to read: of one connection and entity."""

    connection_id: str
    entity: str


class Plan(NamedTuple):
    """How an event is settled once the keys of `reads` were read and stored."""

    settled: Settled
    reads: Mapping[Ask, Sequence[str]] = {}


class Wanted(NamedTuple):
    """The record keys an event names, if it makes sense."""

    entity: str
    keys: Sequence[str]


def understand(event: Event, app: AppConfig | None) -> Wanted | Settled:
    """What records `event` is about; a `Settled` where that is all there is to say."""
    if app is None:
        return Settled("dead", note=f"no Makini app {event.app} is configured")
    if event.kind not in RECORD_KINDS:
        return Settled("dead", note=_nonsense(event))
    if event.entity is None:
        return Settled("dead", note=f"{event.event} names no entity")
    keys = record_keys(read(event.body or b""))
    if not keys:
        return Settled("dead", note="there are no record keys in it")
    return Wanted(event.entity, keys)


def plan(
    event: Event,
    app: AppConfig,
    wanted: Wanted,
    owners: Mapping[str, Sequence[Target]],
    with_token: frozenset[str],
) -> Plan:
    """How to do what `event` asks for. `owners` are the connections of each of its keys.

    Without a known owner it is `unrouted`. A connection that can't be read now, because its login
    is broken, its system away or its token missing, is left to the back-fill: `deferred`.
    """
    targets = {target.id: target for key in wanted.keys for target in owners.get(key, ())}
    if not targets:
        whom = f"known as {event.connection_ref}" if event.connection_ref else "with these keys"
        return Plan(Settled("unrouted", note=f"there is no connection {whom}"))
    owner = next(iter(targets)) if len(targets) == 1 else None
    if wanted.entity not in app.entities:
        return Plan(Settled("processed", owner, f"{wanted.entity} is not among the app's entities"))
    readable = {one for one, target in targets.items() if not _obstacle(target, with_token)}
    if not readable:
        return Plan(Settled("deferred", owner, _obstacle(next(iter(targets.values())), with_token)))
    reads: dict[Ask, list[str]] = {}
    for key in wanted.keys:
        for target in owners.get(key, ()):
            if target.id in readable:
                reads.setdefault(Ask(target.id, wanted.entity), []).append(key)
    return Plan(Settled("processed", owner), reads)


def _obstacle(target: Target, with_token: frozenset[str]) -> str | None:
    if target.setup == "disconnected":
        return "the connection is disconnected"
    if not may_call_data(target.health):
        return f"the connection is {target.health.replace('_', ' ')}"
    return None if target.id in with_token else "the connection has no token"


def _nonsense(event: Event) -> str:
    if event.event is not None:
        return (
            f"no kind is known for {event.event}: add a pattern to the app's event kinds, "
            "then replay it"
        )
    payload = read(event.body or b"")
    return "it names no event" if isinstance(payload, dict) else "its body is no JSON object"
