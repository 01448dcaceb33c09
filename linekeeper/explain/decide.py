"""Which hop of a record's way is missing. Pure.

The earliest hop that broke is named, also where a poll made up for it afterwards: that is what has
to be fixed. What nothing shows is said to be unknown.
"""

from collections.abc import Callable, Sequence
from datetime import timedelta

from linekeeper.explain.answer import Cause, Diagnosis, HopName
from linekeeper.explain.causes import verdict
from linekeeper.explain.decide_forward import handed_on
from linekeeper.explain.facts import DeliveryFacts, EntityFacts, Way
from linekeeper.explain.words import moment
from linekeeper.text import counted

LATE = timedelta(minutes=10)
"""A delivery that comes so long after the change at the source is late."""

_Rule = Callable[[Way], Diagnosis | None]


def judge(way: Way) -> Diagnosis:
    """The verdict on `way`: that of the first rule which has one."""
    if way.delivery is not None:
        rules = _WITH_DELIVERY
    elif way.change is not None:
        rules = _WITH_CHANGE
    else:
        rules = _WITHOUT_BOTH
    for rule in rules:
        verdict = rule(way)
        if verdict is not None:
            return verdict
    conclusion = handed_on(way)
    if conclusion.cause is not Cause.no_news:
        return conclusion
    # That the record is as it was says nothing of what came later, where nothing can be read.
    return _not_read(way) or _not_read_again(way) or conclusion


def _recovered(way: Way) -> str:
    """That a poll brought the change in spite of all, as an addition to a summary."""
    if way.change is not None and way.change.source != "webhook":
        return f" A poll backfilled the change at {moment(way.change.at)}."
    return ""


# With an accepted delivery


def _unsettled(way: Way) -> Diagnosis | None:
    delivery = way.delivery
    if delivery is None or delivery.status != "pending":
        return None
    if delivery.attempts and delivery.error:
        return verdict(
            Cause.retrying,
            f"Attempt {delivery.attempts} failed ({delivery.error}); the next one is at "
            f"{moment(delivery.next_attempt_at)}.",
        )
    if delivery.is_claimed and delivery.next_attempt_at > way.now:  # until then it is claimed
        return verdict(
            Cause.waiting, "The delivery is being worked on right now.", missing=HopName.read
        )
    return verdict(Cause.waiting, "The delivery is stored and waits for the consumer's claim.")


def _not_applied(way: Way) -> Diagnosis | None:
    delivery = way.delivery
    if delivery is None:
        return None
    if delivery.status == "unrouted":
        return verdict(
            Cause.unrouted,
            "A delivery that names this record was accepted, but no connection is known that it "
            "belongs to; it may be this one's." + _recovered(way),
        )
    if delivery.status == "dead":
        return verdict(
            Cause.dead,
            f"The delivery was given up after {counted(delivery.attempts, 'attempt')}: "
            f"{_reason(delivery)}.{_recovered(way)}",
        )
    if delivery.status == "stale":
        return verdict(
            Cause.stale,
            "The delivery was older than what had been applied already, so it changed nothing.",
        )
    return _deferred(way, delivery) if delivery.status == "deferred" else None


_READ_SINCE = "Nothing: Linekeeper has read the record since."
_NOT_LISTED_SINCE = "Nothing: Makini has listed all it has since, and this record is not among it."


def _deferred(way: Way, delivery: DeliveryFacts) -> Diagnosis:
    then = delivery.health_then or (way.connection.health if way.connection else "unknown")
    cause, why = _why_deferred(way, delivery, then)
    record, settled = way.record, delivery.processed_at
    read_since = _recovered(way)
    if not read_since and record is not None and settled is not None and record.seen_at > settled:
        read_since = f" It was read since, at {moment(record.seen_at)}."
    if read_since:
        return verdict(cause, why + read_since, next_step=_READ_SINCE)
    return verdict(cause, why, next_step=_NOT_LISTED_SINCE if way.is_unlisted_since else None)


def _why_deferred(way: Way, delivery: DeliveryFacts, then: str) -> tuple[Cause, str]:
    could_not = "The record could not be read when the delivery came: "
    if then == "reauthorization_required":
        return Cause.deferred_login, f"{could_not}Reauthorization required."
    if then == "unreachable":
        why = f"{could_not}the customer's system was unreachable."
        return Cause.deferred_unreachable, why
    if way.connection is not None and way.connection.custody == "exported":
        why = "The record could not be read: the tokens of this connection were given back."
        return Cause.deferred_given_back, why
    if way.connection is not None and not way.connection.has_token:
        why = "The record could not be read: Linekeeper holds no token for this connection."
        return Cause.deferred_without_token, why
    return Cause.deferred, f"The delivery was left to the next poll: {_reason(delivery)}."


def _reason(delivery: DeliveryFacts) -> str:
    return (delivery.error or "no reason is kept").removesuffix(".")


def _without_record(way: Way) -> Diagnosis | None:
    """Applied, and yet there is no record of it in the index."""
    connection, delivery = way.connection, way.delivery
    if delivery is None or way.key is None or way.record is not None:
        return None
    entity = delivery.entity
    known = connection.entities if connection is not None else None
    if entity is not None and known is not None and entity not in known:
        return verdict(
            Cause.outside_entities,
            f"{entity} is not among the entities that Linekeeper reads for this app, so the record "
            "was not read.",
        )
    return verdict(
        Cause.absent_at_source,
        "Makini was asked for the record of this delivery, and has no such record.",
    )


def _deleted(way: Way) -> Diagnosis | None:
    record, change = way.record, way.change
    if record is not None and record.deleted_at is None:
        if record.deletion != "proposed":
            return None
        return verdict(
            Cause.deletion_held,
            f"Listings since {moment(record.absent_since)} lack the record. The deletion waits for "
            "a person, because too many records are gone at once.",
        )
    if record is None and (change is None or change.op != "deleted"):
        return None
    when = record.deleted_at if record is not None else change.at if change is not None else None
    if change is not None and change.op == "deleted" and change.source != "deletion":
        how = f"it gave the record with the time of its deletion, read at {moment(when)}"
    else:
        how = f"two complete listings agreed on that at {moment(when)}"
    return verdict(
        Cause.deleted,
        f"The source no longer has the record: {how}. Makini sends no webhooks for deletions.",
    )


def _late(way: Way) -> Diagnosis | None:
    change = way.change
    if change is None or change.announced_at is None:
        return None
    since, reading = change.updated_at or change.at, way.reading()
    if reading is not None and reading.grain_seconds:  # it changed within the grain, then was found
        since = max(since, min(since + timedelta(seconds=reading.grain_seconds), change.at))
    after_the_poll = change.source == "poll" and change.announced_at > change.at
    overdue = change.updated_at is not None and change.announced_at - since > LATE
    if not (after_the_poll or overdue) or change.announced_at <= since:
        return None
    minutes = round((change.announced_at - since).total_seconds() / 60)
    return verdict(
        Cause.webhook_late,
        f"The webhook came {counted(minutes, 'minute')} after the change at the source."
        + _recovered(way),
    )


# With a change that no accepted delivery announced


def _unannounced(way: Way) -> Diagnosis | None:
    change, connection = way.change, way.connection
    if change is None or change.announced_at is not None or change.is_ours:
        return None
    recovered = _recovered(way)
    if way.outage is not None:
        return verdict(
            Cause.our_outage,
            f"No receiver of ours could store deliveries from {moment(way.outage.since)} to "
            f"{moment(way.outage.until)}, when the source changed.{recovered}",
        )
    if way.rejected:
        return verdict(
            Cause.rejected,
            f"No delivery for it was accepted; {way.rejected} "
            f"{'was' if way.rejected == 1 else 'were'} rejected in that time "
            f"({way.rejected_why}), and this may have been one of them.{recovered}",
        )
    if way.was_down or way.is_of_first_sync:
        return None
    if connection is not None and connection.last_webhook_at is None:
        return verdict(
            Cause.webhooks_never, f"No webhook has ever come for this connection.{recovered}"
        )
    return verdict(
        Cause.webhook_lost,
        f"Makini sent no webhook for this change, or it was lost on the way to us.{recovered}",
    )


# With neither


def _baseline(way: Way) -> Diagnosis | None:
    if way.record is None:
        return None
    return verdict(
        Cause.baseline,
        "The record is in the index since it was first listed; its last change at the source was "
        f"at {moment(way.record.updated_at)}, and no delivery or change since is known.",
    )


def _not_read(way: Way) -> Diagnosis | None:
    """The connection itself can't be read, so that nothing newer is known says nothing."""
    connection = way.connection
    if connection is None:
        return None
    since = moment(connection.health_since)
    if connection.setup == "disconnected":
        successor = f" Its successor is {connection.successor}." if connection.successor else ""
        return verdict(Cause.disconnected, f"The connection is disconnected.{successor}")
    if connection.setup in ("pending", "authorizing") and way.record is None:
        return verdict(
            Cause.not_connected,
            "The customer has not finished connecting this system, so nothing was ever read.",
        )
    if connection.health == "reauthorization_required":
        return verdict(
            Cause.login_lost,
            f"Reauthorization required since {since}: nothing newer can be read, {_known(way)}.",
        )
    if connection.health == "unreachable":
        return verdict(
            Cause.system_unreachable,
            f"The customer's system is unreachable since {since}: nothing newer can be read, "
            f"{_known(way)}.",
        )
    return None


def _known(way: Way) -> str:
    """How far the index knows the record, at the end of a sentence."""
    if way.record is None:
        return "and the record is not in the index"
    return f"and what the index has of the record is of {moment(way.record.updated_at)}"


def _failing(facts: EntityFacts, then: str) -> Diagnosis:
    return verdict(
        Cause.entity_failing,
        f"{facts.entity} can't be read since {moment(facts.failing_since)}: "
        f"{(facts.error or 'no reason is kept').rstrip('.')}. {then}",
    )


def _not_read_again(way: Way) -> Diagnosis | None:
    """The record is known, and its entity can't be read now."""
    reading = way.reading()
    if way.record is None or reading is None or not reading.failures:
        return None
    return _failing(reading, f"What the index has is of {moment(way.record.updated_at)}.")


def _not_listed(way: Way) -> Diagnosis | None:
    """A key that neither index nor deliveries know: what the listings say about it."""
    failing = [facts for facts in way.entities if facts.failures]
    if failing:
        return _failing(failing[0], "The record may be among what is missing.")
    if way.entities and all(not facts.offered for facts in way.entities):
        return verdict(
            Cause.entity_not_offered,
            f"{_not_offered(way)} No listing, delivery or change that is kept contains this key.",
        )
    if not any(facts.full_at for facts in way.entities):
        return verdict(
            Cause.never_polled, "No entity of this connection has been listed completely yet."
        )
    windows = [facts for facts in way.entities if facts.window_since is not None]
    if windows:
        return verdict(
            Cause.outside_window,
            f"Makini's listing of {windows[0].entity} reaches back to "
            f"{moment(windows[0].window_since)} only. A record that has not changed since then is "
            "not in it, though it may exist.",
        )
    partial = [facts for facts in way.entities if facts.is_partial]
    if partial:
        return verdict(
            Cause.listing_incomplete,
            f"Makini says that there are {partial[0].source_total:,} records of "
            f"{partial[0].entity}, and {partial[0].indexed or 0:,} were here after its last whole "
            "listing. The record may be among what is missing.",
        )
    return None


def _not_offered(way: Way) -> str:
    absent = sorted(facts.entity for facts in way.entities if not facts.offered)
    if not absent:
        return ""
    return (
        f"This system does not offer {', '.join(absent)} (Makini answers 404): a record of that "
        "can't be read."
    )


def _never_seen(way: Way) -> Diagnosis | None:
    """Nothing contains the key: a wrong key is likelier than a record that can't be read."""
    said = (
        "No listing, delivery or change that is kept contains this key. Whether the customer's "
        f"system has such a record can't be known from here. {_not_offered(way)}"
    )
    return verdict(Cause.never_seen, said.rstrip())


_WITH_DELIVERY: Sequence[_Rule] = (_unsettled, _not_applied, _deleted, _without_record, _late)
_WITH_CHANGE: Sequence[_Rule] = (_deleted, _unannounced, _late)
_WITHOUT_BOTH: Sequence[_Rule] = (
    _deleted,
    _not_read,
    _not_read_again,
    _baseline,
    _not_listed,
    _never_seen,
)
