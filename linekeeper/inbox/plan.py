"""What a record event asks for: reads of some connections' records, or nothing more. Pure."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from linekeeper.config import AppConfig
from linekeeper.exact import DEEPEST, is_too_deep, read
from linekeeper.inbox.claim import Event, Settled
from linekeeper.inbox.identify import record_keys
from linekeeper.inbox.meaning import RECORD_KINDS
from linekeeper.inbox.routing import MOST_OWNERS, EventTarget
from linekeeper.makini import may_call_data
from linekeeper.text import health_name


def keys_left(keys: Sequence[str], done: bytes | None) -> list[str]:
    """Those of an event's `keys` that no claim has read yet."""
    return [key for position, key in enumerate(keys) if not _is_set(done, position)]


def mark_done(keys: Sequence[str], done: bytes | None, read: Collection[str]) -> bytes:
    """What to store once those of `keys` that are in `read` are done as well."""
    marks = bytearray(done or b"").ljust((len(keys) + 7) // 8, b"\0")
    for position, key in enumerate(keys):
        if key in read:
            marks[position // 8] |= 1 << position % 8
    return bytes(marks)


def _is_set(done: bytes | None, position: int) -> bool:
    if done is None or position // 8 >= len(done):
        return False
    return bool(done[position // 8] >> position % 8 & 1)


class ReadRequest(NamedTuple):
    """Records to read: of one connection and entity."""

    connection_id: str
    entity: str


class EventPlan(NamedTuple):
    """How an event is settled once the keys of `reads` were read and stored."""

    settled: Settled
    reads: Mapping[ReadRequest, Sequence[str]] = {}
    candidates: Mapping[str, Sequence[str]] = {}
    """The connections that each key may be of, where the event named none."""
    entity: str = ""
    keys: Sequence[str] = ()
    """All keys it names, those that are done already among them."""


class WantedRecords(NamedTuple):
    """The record keys an event names, if it makes sense."""

    entity: str
    keys: Sequence[str]


def understand(event: Event) -> WantedRecords | Settled:
    """What records `event` is about; a `Settled` where that is all there is to say."""
    if event.kind not in RECORD_KINDS:
        return Settled("dead", note=_nonsense(event))
    if event.entity is None:
        return Settled("dead", note=f"{event.event} names no entity")
    keys = record_keys(read(event.body or b""))
    if not keys:
        return Settled("dead", note="there are no record keys in it")
    return WantedRecords(event.entity, keys)


def plan(
    event: Event,
    apps: Mapping[str, AppConfig],
    wanted: WantedRecords,
    owners: Mapping[str, Sequence[EventTarget]],
    with_token: frozenset[str],
) -> EventPlan:
    """How to do what `event` asks for. `owners` are the connections of each of its keys, `apps`
    the app of each connection as that was configured.

    Without a known owner it is `unrouted`. A connection that can't be read now, because its login
    is broken, its system away or its token missing, is left to the backfill: `deferred`; so is a
    key that is in more connections than can be asked. What earlier claims read isn't read again.
    """
    owners = {key: holders for key in wanted.keys if (holders := owners.get(key))}
    if not owners:
        whom = f"known as {event.connection_ref}" if event.connection_ref else "with these keys"
        return EventPlan(Settled("unrouted", note=f"there is no connection {whom}"))
    asked = {key: holders for key, holders in owners.items() if len(holders) <= MOST_OWNERS}
    if not asked:
        note = f"its keys are in more than {MOST_OWNERS} connections: the next poll reads them"
        return EventPlan(Settled("deferred", note=note))
    targets = {target.id: target for holders in asked.values() for target in holders}
    owner = next(iter(targets)) if len(targets) == 1 else None
    asking = {id_: target for id_, target in targets.items() if wanted.entity in apps[id_].entities}
    if not asking:
        note = f"{wanted.entity} is not among the entities that are read"
        return EventPlan(Settled("processed", owner, note))
    readable = {id_ for id_, target in asking.items() if not _obstacle(target, with_token)}
    if not readable:
        return EventPlan(
            Settled("deferred", owner, _obstacle(next(iter(asking.values())), with_token))
        )
    reads: dict[ReadRequest, list[str]] = {}
    for key in keys_left(wanted.keys, event.keys_done):
        for target in asked.get(key, ()):
            if target.id in readable:
                reads.setdefault(ReadRequest(target.id, wanted.entity), []).append(key)
    settled = Settled("processed", owner, _left_out(wanted.keys, asked))
    if event.connection_ref is not None:
        return EventPlan(settled, reads, entity=wanted.entity, keys=wanted.keys)
    candidates = {key: [target.id for target in holders] for key, holders in asked.items()}
    return EventPlan(settled, reads, candidates, wanted.entity, wanted.keys)


def _left_out(keys: Sequence[str], asked: Mapping[str, Sequence[EventTarget]]) -> str | None:
    missing = sum(key not in asked for key in keys)
    if not missing:
        return None
    return (
        f"{missing} of its {len(keys)} keys belong to no connection that is known: "
        "the next poll reads them"
    )


def _obstacle(target: EventTarget, with_token: frozenset[str]) -> str | None:
    if target.setup == "disconnected":
        return "the connection is disconnected"
    if not may_call_data(target.health):
        return f"the connection is {health_name(target.health)}"
    return None if target.id in with_token else "the connection has no token"


def _nonsense(event: Event) -> str:
    if event.event is not None:
        return (
            f"no kind is known for {event.event}: add a pattern to the app's event kinds, "
            "then replay it"
        )
    body = event.body or b""
    if isinstance(read(body), dict):
        return "it names no event"
    if is_too_deep(body):
        return (
            f"its body is nested more than {DEEPEST:,} levels deep, which is not read: "
            "replaying it changes nothing"
        )
    return "its body is no JSON object that can be read: replaying it changes nothing"
