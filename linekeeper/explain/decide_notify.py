"""Why people were notified of an incident, or were not. Pure."""

from collections.abc import Mapping

from linekeeper.explain.answer import Cause, Diagnosis, Hop, HopName, HopState
from linekeeper.explain.causes import verdict
from linekeeper.explain.facts import MessageFacts, NoticeFacts, NotifyFacts
from linekeeper.explain.words import moment
from linekeeper.notify.situations import HoldCause
from linekeeper.text import counted

_HELD: Mapping[HoldCause, Cause] = {
    "silence": Cause.silenced,
    "alike": Cause.held_alike,
    "checked": Cause.held_checked,
    "lasting": Cause.held_lasting,
    "quiet": Cause.quiet_hours,
}
_CHANNELS = {
    "slack": "Slack",
    "elsewhere": "a fallback channel",
    "email": "the customer's mail",
}
_NEEDLESS = frozenset({"suppressed", "superseded", "skipped"})


def channel_name(channel: str) -> str:
    """What people read for a channel of the outbox."""
    return _CHANNELS.get(channel, f"the channel {channel}")


def judge_notice(facts: NotifyFacts) -> Diagnosis:
    """Whether the present opening of the incident was notified, and by which rule."""
    first = next((notice for notice in facts.present() if notice.step == "first"), None)
    if first is not None:
        return _decided(facts, first)
    if facts.merged_into is not None:
        return verdict(
            Cause.merged,
            f"It goes on in “{facts.merged_into}”, for it turned out to be part of that; people "
            "are notified of that one.",
        )
    never = next((notice for notice in facts.present() if notice.step == "never"), None)
    if never is not None:
        return verdict(_why_never(facts), f"It will not be notified: {never.why}.")
    if facts.held is not None:
        cause = _HELD[facts.held]
        if cause is Cause.silenced and _is_muted(facts):
            cause = Cause.muted
        known = facts.held_until is not None and facts.held_until.year < 9999
        until = f" until {moment(facts.held_until)}" if known else ""
        return verdict(cause, f"It is held back{until}: {facts.held_why}.")
    if facts.resolved_at is not None:
        return verdict(
            Cause.never_notified, "It was resolved, and no decision to notify is kept of it."
        )
    return verdict(
        Cause.message_waiting,
        "The alert policy has not decided about it yet, which takes a moment after a change.",
        missing=HopName.policy,
    )


def judge_message(message: MessageFacts, why: str) -> Diagnosis:
    """What became of one outbox message. `why` is the rule that decided on it, if one did."""
    because = f" It was sent because of this rule: {why}." if why else ""
    if message.status == "sent":
        return verdict(
            Cause.notified, f"The message was delivered at {moment(message.settled_at)}.{because}"
        )
    if message.status == "dead":
        return verdict(
            Cause.message_dead,
            f"The message was given up after {counted(message.attempts, 'attempt')}: "
            f"{message.error or 'no reason is kept'}.",
        )
    if message.status in _NEEDLESS:
        reason = f": {message.error}" if message.error else ""
        return verdict(
            Cause.message_suppressed, f"The message was not sent ({message.status}{reason})."
        )
    reason = f"; the last attempt said: {message.error}" if message.error else ""
    return verdict(
        Cause.message_waiting,
        f"The message waits since {moment(message.created_at)}, "
        f"{counted(message.attempts, 'attempt')} so far{reason}.",
    )


def _end(facts: NotifyFacts) -> str:
    """How it ended, if it did."""
    if facts.resolved_at is None:
        return "The trouble goes on"
    if facts.merged_into is not None:
        return f"It goes on in another incident: {facts.merged_into}"
    return "Ended as its app was removed" if facts.is_unwatched else "Resolved"


def notice_hops(facts: NotifyFacts, verdict: Diagnosis) -> tuple[Hop, ...]:
    """The hops of an incident's notification, in order."""
    hops = [Hop(HopName.opened, HopState.done, facts.title, facts.since)]
    decided = [notice for notice in facts.present() if notice.step != "never"]
    if decided:
        said = "; ".join(
            f"{notice.step} to {channel_name(notice.channel)}: {notice.why}" for notice in decided
        )
        hops.append(Hop(HopName.policy, HopState.done, said, decided[0].at))
    else:
        hops.append(Hop(HopName.policy, HopState.missing, verdict.summary, facts.held_until))
    hops += [Hop(HopName.policy, HopState.not_needed, why) for why in facts.unasked]
    hops += message_hops((*facts.messages, *facts.mails))
    if facts.more_mails:
        more = f"{counted(facts.more_mails, 'further mail')} to customers"
        hops.append(Hop(HopName.outbox, HopState.not_needed, more))
    if facts.acknowledged_at is not None:
        by = f"Acknowledged by {facts.acknowledged_by or 'somebody'}"
        hops.append(Hop(HopName.acknowledged, HopState.done, by, facts.acknowledged_at))
    elif facts.resolved_at is None:
        hops.append(Hop(HopName.acknowledged, HopState.waiting, "Nobody has acknowledged it"))
    state = HopState.done if facts.resolved_at is not None else HopState.waiting
    hops.append(Hop(HopName.resolved, state, _end(facts), facts.resolved_at))
    return tuple(hops)


def message_hops(messages: tuple[MessageFacts, ...]) -> list[Hop]:
    """Each message as it was written, and as it was delivered."""
    hops: list[Hop] = []
    for message in messages:
        evidence = {"message": message.id}
        text = f"Written for {channel_name(message.channel)}" + (
            f" ({message.to})" if message.to else ""
        )
        hops.append(Hop(HopName.outbox, HopState.done, text, message.created_at, evidence))
        state = {"sent": HopState.done, "pending": HopState.waiting, "dead": HopState.missing}.get(
            message.status, HopState.not_needed
        )
        reason = f": {message.error}" if message.error else ""
        text = f"{message.status.capitalize()} after {counted(message.attempts, 'attempt')}{reason}"
        hops.append(Hop(HopName.delivered, state, text, message.settled_at, evidence))
    return hops


def _decided(facts: NotifyFacts, first: NoticeFacts) -> Diagnosis:
    """It was decided to notify: what became of the message."""
    rule = f"the rule was: {first.why}"
    if f"severity {first.severity}" not in first.why:
        rule += f" (severity {first.severity})"
    delivered = [message for message in facts.messages if message.status == "sent"]
    dead = [message for message in facts.messages if message.status == "dead"]
    if delivered and facts.slack_configured:
        at = delivered[0].settled_at
        return verdict(Cause.notified, f"People were notified at {moment(at)}; {rule}.")
    if first.channel == "slack" and not facts.slack_configured:
        return verdict(
            Cause.slack_unconfigured,
            f"It was to be notified at {moment(first.at)} ({rule}), but Slack is not configured.",
        )
    if dead:
        return judge_message(dead[-1], "")
    waiting = [message for message in facts.messages if message.status == "pending"]
    if waiting:
        trouble = f" Slack: {facts.slack_trouble}." if facts.slack_trouble else ""
        return verdict(
            Cause.message_waiting,
            f"It was decided at {moment(first.at)} ({rule}); the message waits.{trouble}",
        )
    return verdict(
        Cause.notified,
        f"It was decided at {moment(first.at)}; {rule}. The message itself is no longer kept.",
    )


def _why_never(facts: NotifyFacts) -> Cause:
    if _is_muted(facts):
        return Cause.muted
    return Cause.silenced if facts.silence else Cause.never_notified


def _is_muted(facts: NotifyFacts) -> bool:
    until = facts.resolved_at or facts.now
    return (
        facts.muted_at is not None
        and facts.muted_until is not None
        and facts.muted_at <= until
        and facts.muted_until > facts.since
    )
