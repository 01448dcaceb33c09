"""The credit ledger: sums that neither order nor repetition changes."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linekeeper.credits.decide import (
    CreditError,
    LedgerEntry,
    Listed,
    Override,
    PlannedConnection,
    Tariff,
    balance,
    consume,
    find_leaks,
    need_by_week,
    refund,
    reserve,
    will_it_fit,
)

AT = datetime(2027, 3, 1, 9, tzinfo=UTC)
TODAY = date(2027, 3, 3)
GRANT = LedgerEntry(None, 10, "grant", AT)

steps = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "consume", "give_back"]),
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from([1, 2, 4, 8]),
    ),
    max_size=40,
)


def played(actions: list[tuple[str, str, int]]) -> list[LedgerEntry]:
    ledger = [GRANT]
    for action, subject, cost in actions:
        if action == "reserve":
            ledger += reserve(ledger, subject, cost, AT)
        elif action == "consume":
            ledger += consume(ledger, subject, cost, AT)
        else:
            ledger += refund(ledger, subject, AT)
    return ledger


@pytest.mark.parametrize(
    ("tier", "hosting", "credits"),
    [
        ("I", "cloud", 1),
        ("II", "cloud", 2),
        ("III", "cloud", 4),
        ("I", "on-premises", 2),
        ("II", "on-premises", 4),
        ("III", "on-premises", 8),
    ],
)
def test_a_tier_costs_what_makini_says_and_on_premises_double(tier, hosting, credits):
    assert Tariff().cost(tier, hosting) == credits


@pytest.mark.parametrize(
    ("tier", "hosting", "field"), [("IV", "cloud", "tier"), ("I", "moon", "hosting")]
)
def test_an_unknown_tier_or_hosting_is_refused_by_name(tier, hosting, field):
    with pytest.raises(CreditError) as caught:
        Tariff().cost(tier, hosting)
    assert caught.value.field == field


@given(steps)
def test_available_is_always_granted_less_held_and_no_holding_is_negative(actions):
    ledger = played(actions)
    whole = balance(ledger)
    assert whole.available == sum(entry.delta for entry in ledger)
    for subject in "abc":
        own = balance(ledger, subject)
        assert own.reserved >= 0
        assert own.consumed >= 0
        assert not (own.reserved and own.consumed)


@given(steps, st.randoms())
def test_the_order_of_entries_changes_no_balance(actions, random):
    ledger = played(actions)
    shuffled = ledger[:]
    random.shuffle(shuffled)
    assert balance(shuffled) == balance(ledger)


@given(steps, st.sampled_from(["reserve", "consume", "give_back"]))
def test_doing_a_thing_twice_is_doing_it_once(actions, last):
    once = played([*actions, (last, "a", 2)])
    twice = played([*actions, (last, "a", 2), (last, "a", 2)])
    assert twice == once


@given(steps)
def test_after_everything_is_given_back_everything_is_available(actions):
    ledger = played([*actions, *(("give_back", subject, 1) for subject in "abc")])
    assert balance(ledger).available == 10


def test_connecting_turns_the_reservation_into_consumption():
    ledger = [GRANT, *reserve([GRANT], "a", 4, AT)]
    assert balance(ledger).available == 6
    ledger += consume(ledger, "a", 8, AT)
    assert (balance(ledger).reserved, balance(ledger).consumed, balance(ledger).available) == (
        0,
        8,
        2,
    )


@pytest.mark.parametrize("cost", [0, -1])
def test_a_cost_that_is_not_positive_is_refused(cost):
    with pytest.raises(CreditError, match="cost"):
        reserve([], "a", cost, AT)


def test_what_fits_exactly_is_allowed():
    assert will_it_fit(8, [4, 4]).allowed


def test_what_does_not_fit_is_refused_with_the_shortfall():
    fit = will_it_fit(5, [4, 4])
    assert not fit.allowed
    assert "needs 8 credits, 5 available (estimate): 3 short" in fit.message


def test_an_override_needs_a_reason_and_a_name():
    assert will_it_fit(0, [1], Override(by="Ana", reason="credits are ordered")).allowed
    assert not will_it_fit(0, [1], Override(by=" ", reason="credits are ordered")).allowed
    assert not will_it_fit(0, [1], Override(by="Ana", reason="")).allowed


@given(st.integers(-50, 50), st.lists(st.integers(1, 8), max_size=6))
def test_a_start_is_allowed_only_if_the_credits_last(available, costs):
    fit = will_it_fit(available, costs)
    assert fit.allowed == (sum(costs) <= max(available, 0))
    assert fit.allowed == ("short" not in fit.message)


def test_the_need_falls_into_the_week_of_the_connect():
    ledger = [GRANT, *reserve([GRANT], "a", 4, AT)]
    plans = [
        PlannedConnection("a", 4, date(2027, 3, 9)),
        PlannedConnection("b", 8, date(2027, 3, 17), ends=date(2027, 3, 24)),
    ]
    weeks = need_by_week(ledger, plans, TODAY, weeks=4)
    assert [week.monday for week in weeks] == [date(2027, 3, day) for day in (1, 8, 15, 22)]
    assert [week.need for week in weeks] == [0, 4, 8, -8]
    assert [week.left for week in weeks] == [10, 6, -2, 6]


def test_a_reservation_nobody_plans_for_stays_set_aside():
    ledger = [GRANT, *reserve([GRANT], "forgotten", 4, AT)]
    assert need_by_week(ledger, [], TODAY, weeks=1)[0].left == 6


def test_a_connection_that_is_late_counts_this_week_and_a_connected_one_not_again():
    ledger = [GRANT, *consume([GRANT], "there", 2, AT)]
    plans = [
        PlannedConnection("late", 1, date(2027, 1, 1)),
        PlannedConnection("there", 2, date(2027, 3, 3)),
    ]
    (week,) = need_by_week(ledger, plans, TODAY, weeks=1)
    assert (week.need, week.left) == (1, 7)


def listed(subject: str, **changes: object) -> Listed:
    values = {
        "customer": "Acme",
        "provider": "SAP ECC",
        "name": "Plant North",
        "status": "Active",
        "cost": 8,
        "since": AT,
    }
    return Listed(subject=subject, **{**values, **changes})  # type: ignore[arg-type]  # test data


def test_a_ledger_that_agrees_with_makini_leaks_nothing():
    assert find_leaks(consume([], "a", 8, AT), [listed("a"), listed("p", status="Pending")]) == ()


def test_the_younger_of_two_alike_is_the_duplicate():
    ledger = [*consume([], "a", 8, AT), *consume([], "b", 8, AT)]
    young = listed("b", since=AT + timedelta(days=1), name="plant  NORTH", provider="sap_ecc")
    (leak,) = find_leaks(ledger, [young, listed("a")])
    assert (leak.kind, leak.subject, leak.credits) == ("duplicate", "b", 8)


def test_two_plants_on_the_same_system_are_no_duplicates():
    ledger = [*consume([], "a", 8, AT), *consume([], "b", 8, AT)]
    assert find_leaks(ledger, [listed("a"), listed("b", name="Plant South")]) == ()


@pytest.mark.parametrize("status", ["Inactive", "INACTIVE", "in_active"])
def test_an_inactive_connection_that_the_ledger_counts_is_a_leak(status):
    (leak,) = find_leaks(consume([], "a", 8, AT), [listed("a", status=status)])
    assert (leak.kind, leak.credits) == ("inactive", 8)


def test_ledger_and_list_are_compared_both_ways():
    ledger = consume([], "gone", 4, AT)
    leaks = {leak.subject: leak for leak in find_leaks(ledger, [listed("new")])}
    assert (leaks["new"].kind, leaks["new"].credits) == ("not in ledger", 8)
    assert (leaks["gone"].kind, leaks["gone"].credits) == ("not at Makini", 4)


@given(
    st.lists(
        st.builds(
            listed,
            st.sampled_from(["a", "b", "c", "d"]),
            status=st.sampled_from(["Active", "Inactive", "Pending", "", "In progress", "?"]),
            name=st.text(max_size=3),
        ),
        max_size=8,
        unique_by=lambda connection: connection.subject,
    ),
    steps,
)
def test_each_connection_leaks_in_one_way_at_most(live, actions):
    leaks = find_leaks(played(actions), live)
    assert len({leak.subject for leak in leaks}) == len(leaks)


def test_a_leak_names_a_customer_once_also_where_makinis_name_begins_with_it():
    named = listed("a", status="Inactive", customer="ACME", name="Acme - SAP North")
    (leak,) = find_leaks(consume([], "a", 8, AT), [named])
    assert leak.message.startswith("Acme · SAP North: ")
