from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from linekeeper.config import AlertPolicy, Severity
from linekeeper.config.alerts import quiet_times
from linekeeper.incidents.kinds import severity
from linekeeper.incidents.one_cause import Suppression
from linekeeper.notify.evaluate import step_name
from linekeeper.notify.policy import decide
from linekeeper.notify.situations import NoticeDecision, Notified, Reach, Situation

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)  # a Wednesday
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
NIGHT = AlertPolicy(quiet_hours="22:00-07:00")
FALLBACK_CHANNELS = (SecretStr("json://127.0.0.1:9/"),)


def situation(number: int = 0, severity: Severity = "normal", **more: object) -> Situation:
    base = Situation(id=f"i{number:03}", severity=severity, opened_at=NOW)
    return replace(base, **more)  # type: ignore[arg-type]


class Renderer:
    """Asks again and again, and remembers what was said as the database does."""

    def __init__(self, policy: AlertPolicy, reach: Reach | None = None) -> None:
        self.policy = policy
        self.reach = reach or Reach()
        self.notified: list[Notified] = []

    def at(self, now: datetime, *situations: Situation) -> NoticeDecision:
        known = [situation for situation in situations if situation.opened_at <= now]
        decision = decide(known, self.notified, policy=self.policy, reach=self.reach, now=now)
        self.notified += [
            Notified(say.incident_id, say.channel, say.step, now, say.group_key, say.group_kind)
            for say in decision.say
        ]
        return decision

    def steps(self, channel: str = "slack") -> list[str]:
        return [step_name(notice.step) for notice in self.notified if notice.channel == channel]


def test_the_first_notice_comes_at_once_and_once() -> None:
    renderer = Renderer(AlertPolicy())
    [said] = renderer.at(NOW, situation()).say
    assert (step_name(said.step), said.group_key, said.why) == (
        "first",
        None,
        "severity normal, open",
    )
    assert renderer.at(NOW + MINUTE, situation()).say == []


def test_reminders_come_with_growing_gaps_until_somebody_takes_it() -> None:
    renderer = Renderer(AlertPolicy(escalate_from="never"))
    for minute in range(0, 5 * 24 * 60, 10):
        renderer.at(NOW + minute * MINUTE, situation())
    hours = [(notice.at - NOW) / HOUR for notice in renderer.notified]
    assert hours == [0, 4, 12, 28, 52, 76, 100]
    taken = situation(acknowledged_at=NOW)
    assert renderer.at(NOW + 200 * HOUR, taken).say == []


def test_a_snooze_holds_reminders_and_escalation_back() -> None:
    renderer = Renderer(AlertPolicy())
    snoozed = situation(severity="critical", snoozed_until=NOW + 6 * HOUR)
    renderer.at(NOW, snoozed)
    assert renderer.at(NOW + 5 * HOUR, snoozed).say == []
    assert [step_name(say.step) for say in renderer.at(NOW + 7 * HOUR, snoozed).say] == [
        "escalation"
    ]
    assert [step_name(say.step) for say in renderer.at(NOW + 10 * HOUR, snoozed).say] == [
        "reminder:1"
    ]


def test_what_is_critical_and_untaken_is_escalated_in_both_channels() -> None:
    renderer = Renderer(AlertPolicy(elsewhere=FALLBACK_CHANNELS))
    one = situation(severity="critical")
    renderer.reach = Reach(delivered=frozenset({one.id}))
    renderer.at(NOW, one)
    assert renderer.at(NOW + 59 * MINUTE, one).say == []
    said = renderer.at(NOW + HOUR, one).say
    assert [(s.channel, step_name(s.step)) for s in said] == [
        ("slack", "escalation"),
        ("elsewhere", "escalation"),
    ]
    over = replace(one, resolved_at=NOW + 2 * HOUR)
    [said_then] = renderer.at(NOW + 2 * HOUR, over).say
    assert (said_then.channel, step_name(said_then.step)) == ("elsewhere", "resolved")
    assert said_then.why == "it is over"
    assert renderer.at(NOW + 3 * HOUR, over).say == []


def test_others_do_not_hear_that_what_goes_on_in_a_wider_incident_is_over() -> None:
    renderer = Renderer(AlertPolicy(elsewhere=FALLBACK_CHANNELS), Reach(configured=False))
    renderer.at(NOW, situation())
    renderer.at(NOW + MINUTE, situation())
    wider = situation(resolved_at=NOW + 2 * MINUTE, merged=True)
    [said] = renderer.at(NOW + 2 * MINUTE, wider).say
    assert (said.channel, step_name(said.step)) == ("elsewhere", "resolved")
    assert said.why == "it goes on in another incident"


def test_a_night_is_one_message_in_the_morning_and_what_is_critical_passes() -> None:
    night = datetime(2026, 3, 4, 23, 0, tzinfo=UTC)
    calm = [situation(n, opened_at=night + n * MINUTE) for n in range(3)]
    calm[1] = replace(calm[1], resolved_at=night + HOUR)
    bad = situation(9, "critical", opened_at=night)
    renderer = Renderer(NIGHT)
    [said] = renderer.at(night + 2 * HOUR, *calm, bad).say
    assert said.incident_id == bad.id
    morning = datetime(2026, 3, 5, 7, 0, tzinfo=UTC)
    assert all(s.severity == "critical" for s in renderer.at(morning - MINUTE, *calm, bad).say)
    notice = [s for s in renderer.at(morning, *calm, bad).say if step_name(s.step) == "first"]
    assert [s.incident_id for s in notice] == [one.id for one in calm]
    assert {s.group_key for s in notice} == {f"morning:{morning.isoformat()}"}


def test_one_that_waited_alone_gets_a_message_of_its_own() -> None:
    renderer = Renderer(NIGHT)
    one = situation(opened_at=datetime(2026, 3, 4, 23, 0, tzinfo=UTC))
    [said] = renderer.at(datetime(2026, 3, 5, 7, 0, tzinfo=UTC), one).say
    assert said.group_key is None


def test_what_opens_and_ends_in_maintenance_is_never_told() -> None:
    window = Suppression(NOW - HOUR, NOW + HOUR, "maintenance: patching")
    one = situation(silences=[window])
    renderer = Renderer(AlertPolicy())
    decision = renderer.at(NOW, one)
    assert decision.say == []
    assert decision.held[one.id].why == "maintenance: patching"
    over = replace(one, resolved_at=NOW + 30 * MINUTE)
    assert renderer.at(NOW + 2 * HOUR, over).never == {
        one.id: "over before anybody was notified: maintenance: patching"
    }
    assert [step_name(s.step) for s in renderer.at(NOW + HOUR, one).say] == ["first"]


def test_what_is_over_before_a_deliverer_came_is_told_all_the_same() -> None:
    over = situation(resolved_at=NOW + MINUTE)
    [said] = Renderer(AlertPolicy()).at(NOW + HOUR, over).say
    assert said.why == "severity normal, over already"


def test_beyond_the_cap_messages_are_grouped_in_one() -> None:
    renderer = Renderer(AlertPolicy(cap_per_hour=5))
    several = [situation(n) for n in range(12)]
    said = renderer.at(NOW, *several).say
    assert [s.group_key for s in said] == [None] * 4 + ["cap:i004"] * 8
    late = situation(50, opened_at=NOW + 30 * MINUTE)
    [more] = renderer.at(NOW + 30 * MINUTE, *several, late).say
    assert more.group_key == "cap:i004"
    later = situation(51, opened_at=NOW + 2 * HOUR)
    assert [s.group_key for s in renderer.at(NOW + 2 * HOUR, *several, later).say] == [None]


@pytest.mark.parametrize(
    ("reach", "after", "why"),
    [
        (Reach(configured=False), timedelta(), "Slack is not configured"),
        (Reach(broken_since=NOW, needs_fix=True), timedelta(), "Slack can't be reached"),
        (Reach(broken_since=NOW), 10 * MINUTE, "Slack can't be reached"),
    ],
)
def test_where_slack_can_not_be_told_others_are(reach: Reach, after: timedelta, why: str) -> None:
    renderer = Renderer(AlertPolicy(elsewhere=FALLBACK_CHANNELS), reach)
    several = [situation(n) for n in range(3)]
    renderer.at(NOW, *several)
    if after:
        assert renderer.at(NOW + after - MINUTE, *several).say == []
    said = renderer.at(NOW + after, *several).say or renderer.at(NOW + MINUTE, *several).say
    assert {(s.channel, step_name(s.step), s.why) for s in said} == {("elsewhere", "first", why)}
    assert len({s.group_key for s in said}) == 1
    assert renderer.at(NOW + after + 2 * MINUTE, *several).say == []


def test_others_have_quiet_hours_of_their_own_and_hear_the_rest_in_the_morning() -> None:
    quiet = AlertPolicy(elsewhere=FALLBACK_CHANNELS, elsewhere_quiet_hours="22:00-07:00")
    renderer = Renderer(quiet, Reach(configured=False))
    night = datetime(2026, 3, 4, 23, 0, tzinfo=UTC)
    bad = situation(9, "critical", opened_at=night)
    calm = [situation(n, opened_at=night) for n in range(2)]
    renderer.at(night, bad, *calm)
    morning = datetime(2026, 3, 5, 7, 0, tzinfo=UTC)
    renderer.at(morning - MINUTE, bad, *calm)
    said = [notice for notice in renderer.notified if notice.channel == "elsewhere"]
    assert {notice.incident_id for notice in said} == {bad.id}
    renderer.at(morning, bad, *calm)
    said = [notice for notice in renderer.notified if notice.channel == "elsewhere"]
    assert {notice.incident_id for notice in said} == {bad.id, *(one.id for one in calm)}


def test_who_joins_while_slack_can_not_be_told_is_told_to_others() -> None:
    broken = Reach(broken_since=NOW, needs_fix=True)
    renderer = Renderer(AlertPolicy(elsewhere=FALLBACK_CHANNELS), broken)
    grown = situation(joined_at=NOW - MINUTE)
    renderer.at(NOW, grown)
    assert [step_name(s.step) for s in renderer.at(NOW, grown).say] == ["first"]
    assert renderer.at(NOW + MINUTE, grown).say == []
    for n in (1, 2):
        grown = replace(grown, joined_at=NOW + n * 2 * MINUTE)
        [said] = renderer.at(NOW + n * 2 * MINUTE + MINUTE, grown).say
        assert (said.channel, step_name(said.step)) == ("elsewhere", f"joined:{n}")
        assert renderer.at(NOW + n * 2 * MINUTE + MINUTE, grown).say == []
    taken = replace(grown, joined_at=NOW + 8 * MINUTE, acknowledged_at=NOW + 7 * MINUTE)
    assert renderer.at(NOW + 9 * MINUTE, taken).say == []


def test_who_joins_what_slack_was_told_of_before_it_broke_is_told_to_others() -> None:
    one = situation(joined_at=NOW)
    renderer = Renderer(
        AlertPolicy(elsewhere=FALLBACK_CHANNELS), Reach(delivered=frozenset({one.id}))
    )
    renderer.at(NOW, one)
    assert renderer.at(NOW + MINUTE, one).say == []
    renderer.reach = replace(renderer.reach, broken_since=NOW + MINUTE, needs_fix=True)
    assert renderer.at(NOW + 2 * MINUTE, one).say == []
    one = replace(one, joined_at=NOW + 3 * MINUTE)
    assert [step_name(s.step) for s in renderer.at(NOW + 3 * MINUTE, one).say] == ["joined:1"]


@pytest.mark.parametrize(
    ("kind", "scope", "live", "critical", "expected"),
    [
        ("unreachable", "connection", True, False, "normal"),
        ("unreachable", "connection", True, True, "critical"),
        ("unreachable", "connection", False, True, "low"),
        ("degraded", "connection", True, True, "low"),
        ("reauthorization_required", "provider", True, False, "critical"),
        ("list_failed", "app", False, False, "critical"),
        ("webhooks_dead", "app", False, False, "normal"),
    ],
)
def test_severity_follows_kind_setup_and_customer(
    kind: str, scope: str, live: bool, critical: bool, expected: str
) -> None:
    assert severity(kind, scope, live=live, critical=critical) == expected


minutes = st.integers(0, 3 * 24 * 60)


@st.composite
def situations(draw: st.DrawFn) -> list[Situation]:
    many = []
    for n in range(draw(st.integers(1, 12))):
        opened = NOW + draw(minutes) * MINUTE
        lasts = draw(st.none() | st.integers(0, 2_000))
        silences = []
        if draw(st.booleans()):
            begin = NOW + draw(minutes) * MINUTE
            silences = [
                Suppression(begin, begin + draw(st.integers(1, 600)) * MINUTE, "maintenance")
            ]
        many.append(
            Situation(
                id=f"i{n}",
                severity=draw(st.sampled_from(["low", "normal", "critical"])),
                opened_at=opened,
                resolved_at=None if lasts is None else opened + lasts * MINUTE,
                silences=silences,
            )
        )
    return many


@given(
    many=situations(),
    ticks=st.lists(st.integers(1, 240), min_size=20, max_size=120),
    quiet=st.sampled_from(["", "22:00-07:00", "09:00-17:00"]),
    days=st.sampled_from(["", "sat, sun"]),
    cap=st.integers(1, 6),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns"]),
)
def test_whenever_it_is_asked_nothing_is_repeated_forgotten_or_too_loud(
    many: list[Situation], ticks: list[int], quiet: str, days: str, cap: int, zone: str
) -> None:
    policy = AlertPolicy(
        quiet_hours=quiet,
        quiet_days=days,
        cap_per_hour=cap,
        time_zone=zone,
        elsewhere=FALLBACK_CHANNELS,
    )
    hush = quiet_times(quiet, days, zone)
    renderer, now = Renderer(policy), NOW
    of = {one.id: one for one in many}
    settled: set[str] = set()

    def as_known(at: datetime) -> list[Situation]:
        return [
            replace(one, resolved_at=None)
            if one.resolved_at is not None and one.resolved_at > at
            else one
            for one in many
            if one.id not in settled
        ]

    for tick in [*ticks, 9 * 24 * 60]:
        now += tick * MINUTE
        decision = renderer.at(now, *as_known(now))
        settled |= decision.never.keys()
        # Asked twice in the same state: the second one finds nothing to do.
        assert renderer.at(now, *as_known(now)).say == []
        for said in decision.say:
            situation = of[said.incident_id]
            assert situation.severity == "critical" or not hush.holds(now)
            assert not any(s.starts_at <= now < s.ends_at for s in situation.silences) or (
                step_name(said.step) in ("first", "resolved")
                and situation.resolved_at is not None
                and situation.resolved_at <= now
            )
        for situation in as_known(now):
            known = decision.held.get(situation.id) or any(
                t.incident_id == situation.id for t in renderer.notified
            )
            assert known or situation.opened_at > now  # nothing is silently unheard
    steps = [(one.incident_id, one.channel, step_name(one.step)) for one in renderer.notified]
    assert len(steps) == len(set(steps))
    firsts: dict[str, datetime] = {}
    for notice in renderer.notified:
        if notice.channel == "slack" and step_name(notice.step) == "first":
            firsts.setdefault(notice.group_key or notice.incident_id, notice.at)
    for at in firsts.values():
        within = [other for other in firsts.values() if at <= other < at + HOUR]
        mornings = [key for key in firsts if key.startswith("morning:")]
        assert len(within) <= cap + len(mornings)
