"""When the stream of webhooks is in trouble: the decision alone."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linekeeper.inbox.verify import Cause
from linekeeper.incidents.findings import is_worse
from linekeeper.incidents.kinds import KINDS
from linekeeper.reconcile.causes import Window
from linekeeper.sweep.habits import longest_gap
from linekeeper.sweep.stream import (
    Habit,
    Stream,
    StreamThresholds,
    examine,
)

NOW = datetime(2027, 3, 1, 12, tzinfo=UTC)
POLICY = StreamThresholds()
QUIET = Stream("default")


def found(stream: Stream, **more: object) -> dict[str, str]:
    """Kind → text."""
    return {
        trouble.kind: trouble.text for trouble in examine(stream, policy=POLICY, now=NOW, **more)
    }


def hours_ago(hours: float) -> datetime:
    return NOW - timedelta(hours=hours)


def test_a_quiet_stream_is_fine() -> None:
    assert found(QUIET) == {}
    assert found(replace(QUIET, last_hour=10_000, pending=500, oldest_at=hours_ago(0.01))) == {}


def test_dead_and_unrouted_events_are_named_with_their_number() -> None:
    assert found(replace(QUIET, dead=1))["webhooks_dead"].startswith("1 dead webhook")
    assert found(replace(QUIET, dead=1200))["webhooks_dead"].startswith("1,200 dead webhooks")
    over = "This incident ends a day after the last one, found or not."
    assert found(replace(QUIET, unrouted=2)) == {
        "webhooks_unrouted": f"2 webhooks of no connection that is known, and name none. {over}"
    }


def test_a_failure_rate_counts_from_a_share_and_a_least_number() -> None:
    assert found(replace(QUIET, failing=4, last_hour=4)) == {}
    assert found(replace(QUIET, failing=5, last_hour=101)) == {}
    said = "5 webhooks failing, to be tried again (100 came in the last hour)"
    assert found(replace(QUIET, failing=5, last_hour=100)) == {"webhooks_failing": said}


def test_a_burst_of_bad_signatures_is_over_only_well_below_where_it_begins() -> None:
    def of(number: int) -> Stream:
        return replace(QUIET, refusals={"bad_signature": number})

    assert found(of(19)) == {}
    assert "webhooks_forged" in found(of(20))
    known = ["webhooks_forged"]
    assert "webhooks_forged" in found(of(5), open_kinds=known)
    assert found(of(4), open_kinds=known) == {}


@pytest.mark.parametrize(
    ("causes", "what", "advice"),
    [
        ({"bad_signature": 12}, "12 deliveries in a row had an invalid signature", "secrets"),
        ({"stale_timestamp": 12}, "12 deliveries in a row had a time more than five", "clocks"),
        ({"no_id": 4, "no_signature": 8}, "12 deliveries in a row had no signature", "scheme"),
        ({"no_secret": 12}, "12 deliveries in a row came while no webhook secret is set", "Enter"),
        ({"bad_timestamp": 1, "stale_timestamp": 10, "bad_signature": 1}, "11 of 12 ", "clocks"),
    ],
)
def test_why_deliveries_are_refused_decides_what_has_to_be_looked_at(
    causes: dict[Cause, int], what: str, advice: str
) -> None:
    """A clock that is off had been called a forger, or another secret."""
    in_a_row = found(replace(QUIET, refusals_in_a_row=causes))["webhooks_forged"]
    assert in_a_row.startswith(what)
    assert advice in in_a_row
    known = ["webhooks_forged"]
    burst = found(replace(QUIET, refusals=causes), open_kinds=known)["webhooks_forged"]
    assert burst.startswith(what.replace(" in a row", " in ten minutes"))
    assert re.search(r"\w\.$", burst)
    assert advice in burst


def test_each_cause_of_a_refusal_has_words() -> None:
    assert all(found(replace(QUIET, refusals_in_a_row={cause: 10})) for cause in get_args(Cause))


def test_the_age_of_the_oldest_counts_whatever_the_depth() -> None:
    stream = replace(QUIET, pending=1, oldest_at=hours_ago(0.2))
    assert "the oldest for 12 min" in found(stream)["webhooks_behind"]
    assert "webhooks_behind" in found(replace(QUIET, pending=100_000, oldest_at=NOW))
    assert "webhooks_behind" in found(replace(QUIET, lag_seconds=301))


def test_what_waited_while_all_of_linekeeper_was_off_is_not_behind_when_it_starts() -> None:
    night = [Window(hours_ago(9), hours_ago(0.05))]
    waiting = Stream(
        "default", pending=1, oldest_at=hours_ago(9), forward_waiting=1, forward_oldest_at=NOW
    )
    assert list(found(waiting)) == ["webhooks_behind"]
    assert found(replace(waiting, standstills=night)) == {}
    late = replace(waiting, forward_oldest_at=hours_ago(9.2), standstills=night)
    assert list(found(late)) == ["forward_behind"]
    assert found(replace(late, forward_oldest_at=hours_ago(9.1))) == {}


def test_forwarding_in_trouble_is_told_with_the_products_answer() -> None:
    waiting = replace(
        QUIET, forward_waiting=3, forward_oldest_at=hours_ago(1), forward_error="answered 500"
    )
    assert found(waiting)["forward_behind"] == (
        "3 messages waiting for the product, the oldest for 60 min: answered 500"
    )
    untried = found(replace(waiting, forward_error=""))["forward_behind"]
    assert "none of them was tried, check that a consumer runs" in untried
    assert found(replace(waiting, forward_oldest_at=hours_ago(0.2))) == {}
    dead = replace(QUIET, forward_dead=13, forward_dead_error="given up after 3 days: answered 500")
    assert found(dead)["forward_dead"] == (
        "13 messages not handed on to the product: given up after 3 days: answered 500"
    )
    assert "1 message not" in found(replace(dead, forward_dead=1))["forward_dead"]


def test_a_product_that_takes_nothing_is_not_back_because_its_messages_are_given_up() -> None:
    dead = replace(QUIET, forward_dead=13, forward_dead_error="answered 500", forward_untaken=True)
    known = ["forward_behind"]
    assert "answered 500" in found(dead, open_kinds=known)["forward_behind"]
    assert "forward_behind" not in found(dead), "nothing new opens of it"
    assert "forward_behind" not in found(replace(dead, forward_untaken=False), open_kinds=known)
    again = replace(dead, forward_waiting=13, forward_oldest_at=hours_ago(0.1))
    assert "forward_behind" not in found(again, open_kinds=known), "it is asked again"


def test_a_message_that_is_refused_is_told_soon_with_what_to_do() -> None:
    refused = replace(
        QUIET,
        refused=1,
        refused_at=hours_ago(0.1),
        refused_error="http://product/hooks answered 422 to webhook-id 0197",
    )
    text = found(refused)["forward_refused"]
    assert text.startswith(
        "1 message refused by the product (http://product/hooks answered 422 to webhook-id 0197)."
    )
    assert "Fix the product, or let it answer 2xx to that id" in text
    assert found(replace(refused, refused_at=hours_ago(0.05))) == {}


def test_an_address_that_is_no_more_is_told_at_once_and_only_once() -> None:
    gone = replace(
        QUIET,
        forward_waiting=40,
        forward_oldest_at=hours_ago(2),
        forward_gone="http://product/hooks answered 410 Gone",
    )
    assert list(found(gone)) == ["forward_refused"]
    assert "40 messages waiting, and one is tried" in found(gone)["forward_refused"]
    assert "Correct or empty Forward URL" in found(gone)["forward_refused"]


def test_silence_is_measured_against_its_own_habit() -> None:
    chatty = Habit("Acme · SAP ECC", hours_ago(7), hours=200, longest_gap=1)
    rare = Habit("Bolt · UpKeep", hours_ago(7), hours=200, longest_gap=12)
    young = Habit("New · UpKeep", hours_ago(700), hours=5, longest_gap=1)
    assert found(replace(QUIET, quiet=[rare, young])) == {}
    assert found(replace(QUIET, quiet=[rare, chatty])) == {
        "webhooks_silent": "no webhook for much longer than usual from Acme · SAP ECC"
    }
    app = Habit("default", hours_ago(4), hours=200, longest_gap=1)
    assert "no webhook of any connection" in found(replace(QUIET, habit=app))["webhooks_silent"]
    many = [replace(chatty, name=f"c{n}") for n in range(30)]
    assert "and 20 more" in found(replace(QUIET, quiet=many))["webhooks_silent"]


def test_it_is_worse_from_twice_as_bad_on() -> None:
    assert [is_worse(3, figure) for figure in (3, 5.9, 6)] == [False, False, True]
    assert is_worse(0, 2)
    assert not is_worse(0, 1.5)


def test_the_longest_gap_is_between_neighbours() -> None:
    assert longest_gap([]) == longest_gap([5]) == 0
    assert longest_gap([1, 2, 9, 10]) == 7
    assert longest_gap([1, 2, 9, 12], [(3, 8)]) == 3
    assert longest_gap([1, 9], [(-4, 3), (8, 20)]) == 5


times = st.none() | st.integers(-100, 100).map(hours_ago)
counts = st.integers(0, 10**9)
causes = st.dictionaries(st.sampled_from(get_args(Cause)), st.integers(1, 10**6))


@given(
    st.builds(
        Stream,
        app=st.just("a"),
        pending=counts,
        oldest_at=times,
        failing=counts,
        last_hour=counts,
        dead=counts,
        unrouted=counts,
        refusals=causes,
        refusals_in_a_row=causes,
        lag_seconds=st.floats(0, 1e9),
        forward_dead=counts,
        forward_waiting=counts,
        forward_oldest_at=times,
        refused=counts,
        refused_at=times,
        forward_gone=st.sampled_from(["", "answered 410 Gone"]),
    )
)
def test_whatever_is_seen_each_kind_is_found_once_and_has_a_sentence(stream: Stream) -> None:
    findings = examine(stream, policy=POLICY, now=NOW)
    kinds = [trouble.kind for trouble in findings]
    assert len(kinds) == len(set(kinds))
    assert set(kinds) <= KINDS.keys()
    assert all(trouble.text and "{}" not in trouble.text for trouble in findings)
