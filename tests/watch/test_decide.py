"""Who is silent and what is overdue, from heartbeats and a clock alone."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from linekeeper.watch.decide import Part, WatchPolicy, examine
from linekeeper.watch.standing import stand

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
POLICY = WatchPolicy(after=timedelta(minutes=15))


def minutes(ago: float) -> datetime:
    return NOW - timedelta(minutes=ago)


def part(name: str, *, since: float = 600, at: float = 0) -> Part:
    kind = name.partition(":")[0]
    return Part(name, kind, f"host-{name}", minutes(since), minutes(at))


FINE = [
    part("consumer:a"),
    part("receiver:a"),
    part("worker:w"),
    part("prefect"),
    part("sweep", at=4),
    part("reconcile", at=14),
    part("refresh-tokens", at=300),
]


def causes(parts: list[Part], policy: WatchPolicy = POLICY) -> set[str]:
    troubles = examine(parts, policy, now=NOW).troubles
    for trouble in troubles:  # what every message points to
        assert "`linekeeper doctor`" in trouble.text, trouble.cause
    return {trouble.cause for trouble in troubles}


def but(*changed: Part) -> list[Part]:
    """All is well but for these."""
    names = {part.name for part in changed}
    return [part for part in FINE if part.name not in names] + list(changed)


def test_nothing_is_wrong_where_all_live() -> None:
    assert causes(FINE) == set()


def test_a_machine_that_slept_finds_nothing_wrong_when_it_wakes() -> None:
    """The first that wakes has reported already; the others, and all work, are a night old."""
    night = [replace(each, at=minutes(600), since=minutes(900)) for each in FINE]
    asleep = [part("consumer:a", since=900), *night[1:]]
    assert causes(asleep) > {"part:receiver:a", "work:sweep"}
    assert causes([*asleep, part("awake", since=1, at=1)]) == set()
    assert causes([*asleep, part("awake", since=14.9, at=14.9)]) == set()
    late = causes([*asleep, part("awake", since=15, at=15)])
    assert late == {"part:receiver:a", "part:prefect", "work:sweep"}
    assert causes([*asleep, part("awake", since=-60, at=-60)]) > late, "a clock that was ahead"


@pytest.mark.parametrize("name", ["consumer:a", "receiver:a"])
def test_a_part_that_is_silent_is_found_by_the_other_one(name: str) -> None:
    assert causes(but(part(name, at=14.9))) == set()
    assert causes(but(part(name, at=15))) == {f"part:{name}"}


def test_each_of_several_is_watched() -> None:
    assert causes([*FINE, part("consumer:b", at=20)]) == {"part:consumer:b"}


@pytest.mark.parametrize(
    ("beside", "said"),
    [
        ([], "no other of its kind works"),
        ([0], "1 more of its kind still works"),
        ([0, 1], "2 more of its kind still work"),
        ([7], "1 more has been silent since 2026-03-01 11:53 UTC"),
        ([0, 7, 9], "1 more of its kind still works, 2 more have been silent since"),
    ],
)
@pytest.mark.parametrize("kind", ["consumer", "worker"])
def test_of_the_others_is_said_what_is_known_of_them(
    kind: str, beside: list[float], said: str
) -> None:
    others = [part(f"{kind}:{number}", at=at) for number, at in enumerate(beside)]
    parts = [each for each in FINE if each.kind != kind]
    troubles = examine([*parts, part(f"{kind}:dead", at=20), *others], POLICY, now=NOW).troubles
    texts = [trouble.text for trouble in troubles if trouble.kind == "part_silent"]
    assert all(said in text for text in texts)
    assert len(texts) == (1 if beside or kind == "consumer" else 0)  # no worker: of the pool


def test_while_prefect_is_away_nobody_knows_of_other_workers() -> None:
    parts = but(part("worker:w", at=60), part("worker:v"), part("prefect", at=20))
    known = {"part:worker:w": minutes(60)}
    [text] = [
        trouble.text
        for trouble in examine(parts, POLICY, now=NOW, known=known).troubles
        if trouble.cause == "part:worker:w"
    ]
    assert "not known while Prefect does not answer" in text


def test_one_that_started_after_it_fell_silent_takes_its_place_once() -> None:
    restarted = but(part("consumer:a", at=30), part("consumer:b", since=29))
    assert causes(restarted) == set()
    assert examine(restarted, POLICY, now=NOW).forgotten == {"consumer:a"}
    two_died = [*restarted, part("consumer:c", at=40)]
    assert causes(two_died) == {"part:consumer:c"}  # the other had just ended when it started


def test_what_died_again_after_a_restart_is_replaced_by_the_one_after_it() -> None:
    first, second = part("consumer:a", at=50), part("consumer:b", since=49, at=30)
    restarted_twice = but(first, second, part("consumer:c", since=29))
    assert causes(restarted_twice) == set()
    assert examine(restarted_twice, POLICY, now=NOW).forgotten == {"consumer:a", "consumer:b"}
    # Nobody lives: whether one was to replace the other is not known.
    assert causes(but(first, second)) == {"part:consumer:a", "part:consumer:b"}


def test_one_of_many_is_forgotten_after_a_day_the_only_one_never() -> None:
    assert causes([*FINE, part("receiver:old", at=1441, since=9000)]) == set()
    only = but(part("receiver:a", at=1441, since=9000), part("consumer:a", since=9000))
    assert "part:receiver:a" in causes(only)


def test_after_a_day_switched_off_nothing_is_wrong_until_somebody_has_watched() -> None:
    old = {"at": 1440.0, "since": 9000.0}
    back = [
        part("consumer:new", since=1),
        part("consumer:old", **old),
        part("receiver:old", **old),
        part("sweep", **old),
        part("reconcile", **old),
    ]
    assert causes(back) == set()
    back[0] = part("consumer:new", since=61)
    assert causes(back) == {"part:receiver:old", "work:sweep", "work:reconcile"}


def test_a_worker_is_judged_by_what_prefect_said_last() -> None:
    silent = part("worker:w", at=16)
    assert causes(but(silent)) == {"pool"}
    assert causes([*FINE, part("worker:v", at=16)]) == {"part:worker:v"}
    # Prefect was away for all that time: nothing is known of workers.
    assert causes(but(silent, part("prefect", at=16))) == {"part:prefect"}
    # It answers again, and the worker has not had time to say anything.
    assert causes(but(silent, part("prefect", since=1))) == set()


def test_without_a_consumer_nobody_asks_prefect() -> None:
    gone = but(part("consumer:a", at=20), part("prefect", at=20))
    assert causes(gone) == {"part:consumer:a"}


@pytest.mark.parametrize("asked", [0.1, 0.5, 2])
def test_a_consumer_that_hangs_makes_prefect_no_silent_part(asked: float) -> None:
    """It asks Prefect now and then, and says that it lives more often: asked last a while before
    it fell silent, Prefect seems silent for longer than the consumer does."""
    for ago in (14, 14.9, 15, 15 + asked, 20):
        hangs = but(part("consumer:a", at=ago), part("prefect", at=ago + asked))
        assert "part:prefect" not in causes(hangs), ago


def test_a_consumer_that_just_began_has_not_asked_prefect_in_vain() -> None:
    """A consumer was away for half an hour: it was said that Prefect does not answer."""
    back = but(part("consumer:a", since=14, at=0), part("prefect", at=30))
    assert causes(back) == set()
    assert causes(but(part("consumer:a", since=15, at=0), part("prefect", at=30))) == {
        "part:prefect"
    }


def test_no_sweep_was_completed() -> None:
    assert causes(but(part("sweep", at=15))) == {"work:sweep"}
    never = [part for part in FINE if part.name != "sweep"]
    assert causes(never) == {"work:sweep"}
    assert causes(never, WatchPolicy(after=timedelta(minutes=15), has_apps=False)) == set()


def test_a_sweep_is_overdue_no_sooner_than_the_one_after_the_next_could_be_there() -> None:
    impatient = WatchPolicy(after=timedelta(minutes=4))
    assert "work:sweep" not in causes(but(part("sweep", at=9.9)), impatient)
    assert "work:sweep" in causes(but(part("sweep", at=10)), impatient)


def test_a_pause_is_no_trouble_and_has_a_beginning_and_an_end() -> None:
    overdue = but(part("sweep", at=300), part("reconcile", at=300))
    assert causes(overdue) == {"work:sweep", "work:reconcile"}
    assert causes([*overdue, part("pause", at=0)]) == set()
    assert causes([*overdue, part("pause", at=16)]) == {"work:sweep"}
    for_days = [
        part(each.name, since=99_999, at=(NOW - each.at) / timedelta(minutes=1)) for each in FINE
    ]
    for_days += [part("digest", at=75 * 60, since=9999)]
    assert causes(for_days) == {"work:digest"}
    assert causes([*for_days, part("pause", at=1)]) == set()


@pytest.mark.parametrize(
    ("work", "hours"),
    [
        ("refresh-tokens", 26),
        ("process-webhooks", 3),
        ("advance-implementations", 6),
        ("preflight", 74),
        ("housekeeping", 74),
    ],
)
def test_a_schedule_that_was_switched_off_is_missed(work: str, hours: int) -> None:
    for_long = but(part("consumer:a", since=99_999))
    parts = {each.name: each for each in for_long}
    assert causes([*(parts | {work: part(work, at=hours * 60 - 1)}).values()]) == set()
    parts[work] = part(work, at=hours * 60)
    assert causes([*parts.values()]) == {f"work:{work}"}
    [trouble] = examine(parts.values(), POLICY, now=NOW).troubles
    assert trouble.title.startswith(f"No run of {work} completed since")
    paused = causes([*parts.values(), part("pause", at=0)])
    stands_still = work in ("advance-implementations", "preflight")
    assert paused == (set() if stands_still else {trouble.cause})


def test_what_nobody_ever_did_is_not_missed_but_what_stopped_is() -> None:
    assert causes(FINE) == set()
    assert causes([*FINE, part("digest", at=73 * 60, since=9999)]) == set()
    watched_for_long = but(part("consumer:a", since=99_999))
    assert causes([*watched_for_long, part("digest", at=75 * 60, since=9999)]) == {"work:digest"}
    assert causes([*watched_for_long, part("backup", at=9 * 1440, since=9 * 1440)]) == {
        "work:backup"
    }


def test_the_last_of_a_kind_is_missed_also_where_it_ended_in_good_order() -> None:
    no_consumer = [part for part in FINE if part.kind not in ("consumer", "prefect", "worker")]
    assert causes(no_consumer) == {"kind:consumer"}
    just_begun = [part("receiver:a", since=14), *no_consumer[1:]]
    assert causes(just_begun) == set()


def test_one_that_ended_in_good_order_is_missed_from_then_on() -> None:
    """A receiver that was being restarted was missed at once, since the consumer had begun."""
    ended = Part("ended:receiver", "ended", "receiver", minutes(600), minutes(3))
    without = [part for part in FINE if part.kind != "receiver"]
    assert causes([*without, ended]) == set()
    [trouble] = examine([*without, replace(ended, at=minutes(16))], POLICY, now=NOW).troubles
    assert (trouble.cause, trouble.since) == ("kind:receiver", minutes(16))


def test_who_was_not_heard_of_for_minutes_is_not_said_to_work() -> None:
    for ago, state in ((1, "works"), (3, "silent")):
        seen = stand([part("consumer:c", at=ago)], POLICY, now=NOW)
        states = {each.kind: each.state for each in seen}
        assert states == {"consumer": state, "receiver": "stopped"}


def test_of_a_worker_is_known_what_prefect_said_and_of_prefect_what_a_consumer_heard() -> None:
    def states(worker: int, prefect: int, consumer: int) -> dict[str, str]:
        parts = [
            part("worker:w", at=worker),
            part("prefect", at=prefect),
            part("consumer:c", at=consumer),
            part("receiver:r"),
        ]
        return {each.kind: each.state for each in stand(parts, POLICY, now=NOW)}

    works = {"consumer": "works", "prefect": "works", "receiver": "works"}
    assert states(0, 0, 0) == {**works, "worker": "works"}
    assert states(3, 0, 0) == {**works, "worker": "silent"}
    # It was heard of as long as Prefect could be asked.
    assert states(2, 1, 0) == {**works, "worker": "works"}
    assert states(5, 5, 0) == {**works, "prefect": "silent", "worker": "unknown"}
    assert states(20, 20, 0) == {**works, "prefect": "silent", "worker": "unknown"}
    away = {"consumer": "silent", "prefect": "unknown", "worker": "unknown"}
    assert states(5, 5, 5) == {**away, "receiver": "works"}


def test_since_when_a_worker_works_is_not_known() -> None:
    """Prefect has its name alone: another process may have taken it meanwhile."""
    parts = [part("worker:w"), part("prefect"), part("consumer:c")]
    since = {each.kind: each.since for each in stand(parts, POLICY, now=NOW)}
    assert since["worker"] is None
    assert None not in (since["prefect"], since["consumer"])
