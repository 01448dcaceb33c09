"""The hops of a record's way, each with its time and evidence. Pure."""

from collections.abc import Iterator
from dataclasses import replace

from linekeeper.explain.answer import Diagnosis, Hop, HopName, HopState
from linekeeper.explain.facts import ChangeFacts, Way
from linekeeper.explain.words import answer, moment
from linekeeper.text import counted

_ORDER = (
    HopName.source,
    HopName.webhook,
    HopName.accepted,
    HopName.claimed,
    HopName.read,
    HopName.indexed,
    HopName.forward,
    HopName.feed,
    HopName.poll,
)


def hops_of(way: Way, verdict: Diagnosis) -> tuple[Hop, ...]:
    """Every hop in order; the one the verdict names is `missing` (or waits, if it will come)."""
    hops = []
    for hop in (*_arriving(way), *_applying(way), *_leaving(way)):
        missing = hop.name is verdict.missing and hop.state is not HopState.waiting
        hops.append(replace(hop, state=HopState.missing) if missing else hop)
    return tuple(sorted(hops, key=lambda hop: _ORDER.index(hop.name)))


def _arriving(way: Way) -> Iterator[Hop]:
    changed, delivery, change = way.changed_at, way.delivery, way.change
    if changed is not None:
        yield Hop(HopName.source, HopState.done, "Changed at the source, by its updatedAt", changed)
    else:
        yield Hop(HopName.source, HopState.unknown, "The source's time of change is not known")
    if delivery is not None:
        evidence = {"event": delivery.id, "delivery": delivery.delivery_key}
        text = f"Received: {delivery.event or delivery.kind}"
        yield Hop(HopName.webhook, HopState.done, text, delivery.received_at, evidence)
        yield Hop(HopName.accepted, HopState.done, "Verified and stored", delivery.received_at)
    elif change is not None and change.announced_at is not None:
        text = "Received; the delivery itself is no longer kept"
        yield Hop(HopName.webhook, HopState.done, text, change.announced_at)
        yield Hop(HopName.accepted, HopState.done, "Verified and stored", change.announced_at)
    else:
        is_natural = way.was_down or way.is_of_first_sync
        needless = change is not None and (change.is_ours or is_natural)
        state = HopState.not_needed if needless else HopState.unknown
        if change is not None and state is HopState.unknown:
            state = HopState.missing
        none, came = "No accepted delivery names this record", "None came"
        if change is not None and way.named_at is not None:
            came = "None came for this change"
            none = (
                "No accepted delivery announced this change; the last one that names the record "
                f"came at {moment(way.named_at)}"
            )
        if way.was_down:
            none = "None could come: it changed while the login was lost or the system away"
        elif change is not None and change.is_ours:
            none = f"None is due: {_found_out(change)}"
        elif way.is_of_first_sync:
            none = "None was due: it is from before the connection had been read once"
        yield Hop(HopName.webhook, state, none)
        text = (
            f"{counted(way.rejected, 'rejected delivery')} in that time" if way.rejected else came
        )
        yield Hop(HopName.accepted, HopState.unknown if way.rejected else state, text)


def _applying(way: Way) -> Iterator[Hop]:
    delivery, record = way.delivery, way.record
    if delivery is None:
        state = HopState.not_needed
        yield Hop(HopName.claimed, state, "Nothing to claim")
        yield Hop(HopName.read, state, "No delivery asked for a read")
    else:
        claimed = delivery.attempts > 0 or delivery.status != "pending"
        yield Hop(
            HopName.claimed,
            HopState.done if claimed else HopState.waiting,
            f"Claimed by the consumer, attempt {delivery.attempts}" if claimed else "Not yet",
            delivery.processed_at,
        )
        yield _reading(way)
    if record is not None:
        gone = f"; deleted at {moment(record.deleted_at)}" if record.deleted_at else ""
        number = {"number": record.number} if record.number else {}
        yield Hop(
            HopName.indexed,
            HopState.done,
            f"In the index under {record.entity}{gone}",
            record.seen_at,
            {"key": record.key, **number},
        )
    else:
        state = HopState.unknown if way.key is not None else HopState.not_needed
        yield Hop(HopName.indexed, state, "Not in the index")


def _reading(way: Way) -> Hop:
    delivery = way.delivery
    assert delivery is not None
    detail = f": {delivery.error}" if delivery.error else ""
    if delivery.status == "pending":
        return Hop(HopName.read, HopState.waiting, f"Waits{detail}", delivery.next_attempt_at)
    if delivery.status == "stale":
        text = f"Older than what had been applied, so nothing was changed{detail}"
        return Hop(HopName.read, HopState.done, text, delivery.processed_at)
    if delivery.status == "processed":
        without = way.key is not None and way.record is None and way.change is None
        text = "Settled without such a record" if without else "Applied"
        return Hop(HopName.read, HopState.done, f"{text}{detail}", delivery.processed_at)
    text = f"Ended {delivery.status}{detail}"
    return Hop(HopName.read, HopState.missing, text, delivery.processed_at)


def _leaving(way: Way) -> Iterator[Hop]:
    forward, change = way.forward, way.change
    if forward is not None and (forward.status is not None or forward.attempts):
        tried = [
            f"{moment(attempt.at)}: {answer(attempt.status, attempt.error)}"
            for attempt in forward.attempts
        ]
        taken = forward.status == "sent" or any(
            attempt.status is not None and 200 <= attempt.status < 300
            for attempt in forward.attempts
        )
        state = HopState.done if taken else HopState.waiting
        if forward.status in ("dead", "skipped"):
            state = HopState.missing
        text = "; ".join(tried[-5:]) or f"Forward {forward.status}; no attempt is recorded"
        at = forward.attempts[-1].at if forward.attempts else forward.settled_at
        yield Hop(HopName.forward, state, text, at)
    else:
        forwards = way.connection is not None and way.connection.forwards
        state = HopState.unknown if forwards else HopState.not_needed
        text = "No forward is recorded" if forwards else "Nothing is forwarded for this app"
        yield Hop(HopName.forward, state, text)
    if change is None:
        yield Hop(HopName.feed, HopState.not_needed, "No change in the feed")
    elif way.reads:
        last = way.reads[0]
        keys = ", ".join(dict.fromkeys(read.key_name for read in way.reads))
        text = f"Read from the change feed by {keys}"
        yield Hop(HopName.feed, HopState.done, text, last.at, {"change": change.id})
    else:
        text = "In the change feed; no key has read it as far as is recorded"
        yield Hop(HopName.feed, HopState.unknown, text, change.at, {"change": change.id})
    yield _polling(way)


def _found_out(change: ChangeFacts) -> str:
    """What a change is that nobody announces."""
    if change.op == "rekeyed":
        return "a new connection has the record under another key"
    if change.op == "deleted":
        return "the source no longer has the record"
    return "its deletion was undone here"


def _polling(way: Way) -> Hop:
    change, reading = way.change, way.reading()
    if change is not None and change.source != "webhook":
        label = "Backfilled by the poll" if change.recovered else "Found by the poll"
        label = _found_out(change).capitalize() if change.is_ours else label
        return Hop(HopName.poll, HopState.done, label, change.at, {"change": change.id})
    if reading is not None and reading.polled_at is not None:
        text = f"{reading.entity} was last polled then"
        return Hop(HopName.poll, HopState.not_needed, text, reading.polled_at)
    if way.record is None and change is None:
        return Hop(HopName.poll, HopState.unknown, "No poll that is recorded found it")
    return Hop(HopName.poll, HopState.not_needed, "No poll was needed")
