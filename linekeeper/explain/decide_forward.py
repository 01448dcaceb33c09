"""What became of forwarding to the product, once everything up to the index is well. Pure."""

from linekeeper.explain.answer import Cause, Diagnosis
from linekeeper.explain.causes import verdict
from linekeeper.explain.facts import ForwardFacts, Way
from linekeeper.explain.words import answer, moment

_NOT_NOW = frozenset({408, 425, 429})
"""Answers that say "not now" rather than "not this"."""
_AHEAD: dict[str | None, Cause] = {"refused": Cause.product_refused, "gone": Cause.product_gone}
"""What holds up a message behind one that the product refuses."""


def handed_on(way: Way) -> Diagnosis:
    """The verdict on the last part of the way."""
    connection, forward = way.connection, way.forward
    if forward is not None and (forward.status is not None or forward.attempts):
        return _taken(forward) or (_not_taken(forward) if forward.attempts else _not_tried(forward))
    if way.reads:
        return verdict(
            Cause.product_accepted,
            f"The product read the change from the change feed at {moment(way.reads[0].at)}, with "
            f"the key {way.reads[0].key_name}.",
        )
    removed = way.retention.get("traces")
    if way.change is not None and removed is not None and way.change.at < removed:
        return verdict(
            Cause.not_recorded,
            f"The change reached the feed at {moment(way.change.at)}. Whether the product got it "
            "can't be known: attempts to forward and reads of the feed of that time are no longer "
            "kept.",
        )
    if way.change is not None and connection is not None and not connection.forwards:
        return verdict(
            Cause.feed_unread,
            "The change is in the feed, but no key has read that far, and nothing is forwarded for "
            "this app.",
        )
    if way.change is None and way.key is not None:
        return verdict(
            Cause.no_news,
            "The record was read for this delivery, and was already in the index as it is.",
        )
    return verdict(Cause.nothing_missing, "Every hop that is recorded was passed.")


def _taken(forward: ForwardFacts) -> Diagnosis | None:
    taken = [each for each in forward.attempts if each.status and 200 <= each.status < 300]
    if taken:
        said = answer(taken[-1].status, None)
        return verdict(
            Cause.product_accepted, f"The product took it at {moment(taken[-1].at)} ({said})."
        )
    if forward.status == "sent":
        return verdict(
            Cause.product_accepted,
            f"The product took it at {moment(forward.settled_at)}; its answer is no longer kept.",
        )
    return None


def _not_tried(forward: ForwardFacts) -> Diagnosis:
    if forward.status in ("dead", "skipped"):
        return verdict(
            Cause.forward_gave_up,
            f"The forward was given up; no attempt is recorded.{_lost(forward)}",
        )
    if forward.ahead is not None:
        return verdict(
            _AHEAD.get(forward.ahead.refusal, Cause.product_unreachable),
            "It was not tried yet: a connection's messages go in order, and one before it was not "
            f"taken ({forward.ahead.error}).",
        )
    return verdict(
        Cause.forward_waiting,
        f"The forward waits since {moment(forward.created_at)} and was not tried yet.",
    )


def _not_taken(forward: ForwardFacts) -> Diagnosis:
    last, tries = forward.attempts[-1], len(forward.attempts)
    said = f"{answer(last.status, last.error)} at {moment(last.at)}, attempt {tries}"
    if last.status == 410:
        return verdict(Cause.product_gone, f"The product's address takes nothing any more: {said}.")
    if last.status is not None and last.status < 500 and last.status not in _NOT_NOW:
        return verdict(Cause.product_refused, f"The product refuses it: {said}.")
    if forward.status in ("dead", "skipped"):
        return verdict(Cause.forward_gave_up, f"The forward was given up: {said}.{_lost(forward)}")
    return verdict(Cause.product_unreachable, f"The product did not take it: {said}.")


def _lost(forward: ForwardFacts) -> str:
    """What is added where nobody can hand it on any more."""
    return " What it is about is no longer kept here." if forward.status == "skipped" else ""
