"""Who is notified of what, where and when. Pure: decided from state and clock only.

`decide` compares the incidents there are with what was said of them (`Notified`) and returns what
is to be said now. Whoever asks, and however often: what is in `Notified` is never asked for again,
and what isn't is asked for until it is. Defaults: INTERFACE "Policy defaults".
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from linekeeper.config import AlertPolicy
from linekeeper.config.alerts import Quiet, quiet_times
from linekeeper.incidents.announce import ROOT_CAUSE_WAIT
from linekeeper.incidents.conclude_queries import CHECK_WAIT
from linekeeper.notify.groups import GroupKind, Shared
from linekeeper.notify.outage import MERGED
from linekeeper.notify.routing import DEFAULT
from linekeeper.notify.situations import (
    RANK,
    Channel,
    HeldBack,
    NoticeDecision,
    Notified,
    Reach,
    Say,
    Situation,
)
from linekeeper.notify.steps import Step

BROKEN_AFTER = timedelta(minutes=10)
"""So long Slack may be out of reach until others are notified instead."""
_UNSETTLED: Mapping[str, tuple[str, timedelta]] = {
    "alike": ("perhaps of one root cause with another of its provider", ROOT_CAUSE_WAIT),
    "checked": ("Linekeeper asks first whether the login works", CHECK_WAIT),
}
_HOUR = timedelta(hours=1)
_INSTANT = timedelta(microseconds=1)


def reach_of(reach: Reach, slack_channel: str) -> Reach:
    """That of one channel; where there is none of this name any more, `default` is meant."""
    return reach.others.get(slack_channel, reach)


def check(policy: AlertPolicy) -> None:
    """Raise `ValueError` that says what in `policy` contradicts itself."""
    quiet_times(policy.quiet_hours, policy.quiet_days, policy.time_zone)
    quiet_times(policy.elsewhere_quiet_hours, policy.elsewhere_quiet_days, policy.time_zone)
    if policy.remind_max_hours < policy.remind_hours:
        raise ValueError(
            f"the longest gap between reminders ({policy.remind_max_hours:g} h) is shorter than "
            f"the first ({policy.remind_hours:g} h)"
        )
    if any("://" not in url.get_secret_value() for url in policy.elsewhere):
        raise ValueError("fallback channels: an entry is no URL; separate URLs by spaces")


def decide(
    situations: Iterable[Situation],
    notified: Iterable[Notified],
    *,
    policy: AlertPolicy,
    reach: Reach,
    now: datetime,
) -> NoticeDecision:
    """What is to be said of `situations` now, given what was said of them.

    `notified` holds everything said of `situations`, and whatever was said within the last hour, of
    whichever incident.
    """
    past: dict[str, list[Notified]] = {}
    for notice in notified:
        past.setdefault(notice.incident_id, []).append(notice)
    deciding = _Deciding(policy, reach, now)
    for situation in sorted(situations, key=_urgency):
        # What was said of an earlier opening is history: it is announced as the first time.
        before = {
            (notice.channel, notice.step): notice
            for notice in past.get(situation.id, ())
            if notice.round == situation.round
        }
        first = before.get(("slack", Step("first")))
        if first is None:
            deciding.first(situation)
            if policy.elsewhere and situation.resolved_at is not None:
                deciding.fallback(situation, before)
            continue
        if situation.resolved_at is None and situation.acknowledged_at is None:
            deciding.more(situation, before, first)
        if policy.elsewhere:
            deciding.fallback(situation, before)
    everything = [notice for notices in past.values() for notice in notices]
    deciding.place_firsts(everything)
    deciding.group_for_fallback_channels(everything)
    return deciding.decision


def held(situation: Situation, at: datetime, quiet: Quiet, policy: AlertPolicy) -> HeldBack | None:
    """Why the incident would not be announced for the first time at `at`; None if it would."""
    for silence in situation.silences:
        if silence.starts_at <= at < silence.ends_at:
            return HeldBack("silence", silence.why, silence.ends_at)
    if situation.unsettled is not None:
        why, wait = _UNSETTLED[situation.unsettled]
        if at < (settled := situation.opened_at + wait):
            return HeldBack(situation.unsettled, why, settled)
    if situation.severity == "critical":
        return None
    lasting = situation.opened_at + timedelta(minutes=policy.first_after_minutes)
    if at < lasting:
        return HeldBack(
            "lasting", f"notified if it lasts {policy.first_after_minutes:g} min", lasting
        )
    if quiet.holds(at):
        return HeldBack("quiet", "quiet hours", quiet.until(at))
    return None


def is_hushed(situation: Situation, policy: AlertPolicy, now: datetime) -> bool:
    """Whether nothing more is to be said of it at present."""
    is_snoozed = situation.snoozed_until is not None and now < situation.snoozed_until
    return is_snoozed or held(situation, now, policy.quiet, policy) is not None


def reminder_gap(count: int, policy: AlertPolicy) -> timedelta:
    """How long after the notice before it reminder number `count` (from 0) is due."""
    hours, longest = policy.remind_hours, policy.remind_max_hours
    for _ in range(count):
        if hours >= longest:
            break
        hours *= policy.remind_growth
    return timedelta(hours=min(hours, longest))


def _urgency(situation: Situation) -> tuple[int, datetime, str]:
    return -RANK[situation.severity], situation.opened_at, situation.id


class _Deciding:
    """One call of `decide`."""

    def __init__(self, policy: AlertPolicy, reach: Reach, now: datetime) -> None:
        self.decision = NoticeDecision()
        self._policy = policy
        self._quiet = policy.quiet
        self._reach = reach
        self._now = now
        self._firsts: list[tuple[Situation, str]] = []
        self._kinds: dict[str | None, str | None] = {}

    def first(self, situation: Situation) -> None:
        """Whether the time for the first notice has come."""
        if situation.merged:
            self.decision.never[situation.id] = MERGED
            return
        if situation.resolved_at is None:
            holding = held(situation, self._now, self._quiet, self._policy)
            if holding is None:
                again = "reopened" if situation.round else "open"
                self._firsts.append((situation, f"severity {situation.severity}, {again}"))
            else:
                self.decision.held[situation.id] = holding
            return
        # Over before anybody was notified: what waits for the morning is said then, or at once if
        # nothing held it back but a deliverer that was away; the rest is never said.
        last = max(situation.opened_at, situation.resolved_at - _INSTANT)
        then = held(situation, last, self._quiet, self._policy)
        if then is not None and then.cause != "quiet":
            self.decision.never[situation.id] = f"over before anybody was notified: {then.why}"
        elif situation.severity != "critical" and self._quiet.holds(self._now):
            morning = self._quiet.until(self._now)
            self.decision.held[situation.id] = HeldBack("quiet", "quiet hours", morning)
        else:
            self._firsts.append((situation, f"severity {situation.severity}, over already"))

    def more(
        self, situation: Situation, before: Mapping[tuple[str, Step], Notified], first: Notified
    ) -> None:
        """A reminder and an escalation of an open incident nobody has taken."""
        now, policy = self._now, self._policy
        if is_hushed(situation, self._policy, self._now):
            return
        rested = max(
            [first.at, situation.snoozed_until or first.at]
            + [silence.ends_at for silence in situation.silences if silence.ends_at <= now]
        )
        wait = timedelta(minutes=policy.escalate_minutes)
        if RANK[situation.severity] >= RANK[policy.escalate_from] and now >= rested + wait:
            why = f"nobody acknowledged it within {policy.escalate_minutes:g} min"
            channels: tuple[Channel, ...] = ("slack", "elsewhere")
            for channel in channels if policy.elsewhere else channels[:1]:
                if (channel, Step("escalation")) not in before:
                    self._say(situation, channel, Step("escalation"), why)
        if situation.severity == "low":
            return
        reminders = [said for said in before.values() if said.step.kind == "reminder"]
        count = len(reminders)
        latest = max([rested, *(said.at for said in reminders)])
        if now >= latest + reminder_gap(count, policy):
            why = f"not acknowledged {_hours(now - first.at)} after the first notice"
            self._say(situation, "slack", Step("reminder", count + 1), why)

    def fallback(self, situation: Situation, before: Mapping[tuple[str, Step], Notified]) -> None:
        """Notify fallback channels where Slack can't be reached: also of who joins, and the end."""
        said = [each for each in before.values() if each.channel == "elsewhere"]
        if situation.resolved_at is not None:
            if said and ("elsewhere", Step("resolved")) not in before:
                why = "it goes on in another incident" if situation.merged else "it is over"
                self._say(situation, "elsewhere", Step("resolved"), why)
            return
        reach = reach_of(self._reach, situation.slack_channel)
        since = reach.broken_since
        broken = since is not None and (reach.needs_fix or self._now >= since + BROKEN_AFTER)
        if not broken and reach.configured:
            return
        why = "Slack can't be reached" if broken else "Slack is not configured"
        if said:
            known = max(each.at for each in said)
        elif situation.id in self._reach.delivered and not situation.round:
            known = reach.broken_since or self._now
        else:
            self._say(situation, "elsewhere", Step("first"), why)
            return
        if situation.acknowledged_at is not None or is_hushed(situation, self._policy, self._now):
            return
        if situation.joined_at is not None and situation.joined_at > known:
            count = sum(each.step.kind == "joined" for each in said)
            self._say(situation, "elsewhere", Step("joined", count + 1), why)

    def place_firsts(self, notified: Sequence[Notified]) -> None:
        """Give each first notice a message of its own or, in the morning and over the cap, one.

        Each channel has its own morning and its own cap.
        """
        in_slack = [
            notice
            for notice in notified
            if notice.channel == "slack" and notice.step.kind == "first"
        ]
        for name in dict.fromkeys(situation.slack_channel for situation, _ in self._firsts):
            of_channel = [notice for notice in in_slack if notice.slack_channel == name]
            self._place_firsts(name, of_channel)

    def _place_firsts(self, slack_channel: str, notified: Sequence[Notified]) -> None:
        cap = self._policy.cap_per_hour
        firsts = [
            (situation, why)
            for situation, why in self._firsts
            if situation.slack_channel == slack_channel
        ]
        started: dict[str, datetime] = {}
        for notice in sorted(notified, key=lambda notice: notice.at):
            started.setdefault(notice.group_key or notice.incident_id, notice.at)
        self._kinds = {notice.group_key: notice.group_kind for notice in notified}
        recent = {key for key, at in started.items() if self._now - at < _HOUR}
        morning, of_morning = self._morning(
            slack_channel, [situation for situation, _ in firsts], started
        )
        over = [
            situation.id
            for situation, _ in firsts
            if situation.resolved_at and situation.id not in of_morning
        ]
        firsts.sort(key=lambda first: first[0].id in over)  # what is open goes first
        for situation, why in firsts:
            if situation.id in of_morning:
                recent.add(morning)
                waited = "waited for the morning"
                self._say(situation, "slack", Step("first"), waited, (morning, "morning"))
            elif situation.id in over and (shared := self._shared_by(over, recent, started)):
                recent.add(shared)
                self._say(situation, "slack", Step("first"), why, (shared, "over"))
            elif len(recent) < cap - 1:
                recent.add(situation.id)
                self._say(situation, "slack", Step("first"), why)
            else:
                group_key = self._last("cap", recent, started) or f"cap:{situation.id}"
                recent.add(group_key)
                many = f"more than {cap} messages an hour"
                self._say(situation, "slack", Step("first"), many, (group_key, "cap"))

    def _shared_by(
        self, over: Sequence[str], recent: Collection[str], started: Mapping[str, datetime]
    ) -> str:
        """The one message about what is over already; empty where it needs none."""
        known = self._last("over", recent, started)
        if known or len(over) < 2 or len(recent) >= self._policy.cap_per_hour - 1:
            return known
        return f"over:{over[0]}"

    def _last(self, kind: GroupKind, recent: Iterable[str], started: Mapping[str, datetime]) -> str:
        """The last message of that kind about several incidents within the hour."""
        keys = (key for key in recent if self._kinds.get(key) == kind)
        starts = [(started.get(key, self._now), key) for key in keys]
        return max(starts, default=(self._now, ""))[1]

    def group_for_fallback_channels(self, notified: Sequence[Notified]) -> None:
        """What goes elsewhere at one moment is one message; over the cap and when quiet it waits.

        What was decided for Slack is not touched.
        """
        policy, now = self._policy, self._now
        wanted = [say for say in self.decision.say if say.channel == "elsewhere"]
        others = [say for say in self.decision.say if say.channel != "elsewhere"]
        quiet = quiet_times(
            policy.elsewhere_quiet_hours, policy.elsewhere_quiet_days, policy.time_zone
        )
        recent = {
            notice.at
            for notice in notified
            if notice.channel == "elsewhere" and now - notice.at < _HOUR
        }
        if len(recent) >= policy.cap_per_hour:
            wanted = []
        elif quiet.holds(now):
            wanted = [say for say in wanted if say.severity == "critical"]
        if len(wanted) > 1:
            key = f"elsewhere:{now.isoformat()}"
            wanted = [replace(say, group_key=key, group_kind="elsewhere") for say in wanted]
        self.decision.say = [*others, *wanted]

    def _morning(
        self, slack_channel: str, firsts: Sequence[Situation], started: Collection[str]
    ) -> tuple[str, frozenset[str]]:
        """The message of this morning, and its incidents: at least two that waited."""
        dawn = self._quiet.ended(self._now)
        where = "" if slack_channel == DEFAULT else f":{slack_channel}"
        if dawn is None or f"morning:{dawn.isoformat()}{where}" in started:
            return "", frozenset()
        waited = {
            situation.id
            for situation in firsts
            if situation.opened_at < dawn
            and (holding := held(situation, dawn - _INSTANT, self._quiet, self._policy))
            and holding.cause == "quiet"
        }
        return f"morning:{dawn.isoformat()}{where}", frozenset(waited if len(waited) > 1 else ())

    def _say(
        self, of: Situation, channel: Channel, step: Step, why: str, group: Shared = (None, None)
    ) -> None:
        self._kinds.update([group])
        whereto = of.severity, of.round, of.slack_channel
        self.decision.say.append(Say(of.id, channel, step, why, group[0], group[1], *whereto))


def _hours(length: timedelta) -> str:
    minutes = length.total_seconds() / 60
    return f"{minutes / 60:.0f} h" if minutes >= 120 else f"{minutes:.0f} min"
