from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linekeeper.config import HealthPolicy
from linekeeper.incidents.causes import ProviderCounts, Trouble, find_causes
from linekeeper.incidents.decide import Open, Past, decide

NOW = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
POLICY = HealthPolicy()
SAP = ("default", "SAP")
TOTALS = {SAP: 40, ("default", "UpKeep"): 60, ("default", "Maximo"): 900}


def down(number: int, provider: str = "SAP", *, ago: int = 0, kind: str = "unreachable") -> Trouble:
    return Trouble(f"{provider}-{number:03}", "default", provider, kind, NOW - ago * MINUTE)


def scopes(
    troubles: list[Trouble],
    suspects: dict[tuple[str, str], int],
) -> list[tuple[str, int]]:
    causes = find_causes(troubles, TOTALS, suspects, POLICY)
    return [(cause.scope, len(cause.members)) for cause in causes]


def test_the_first_of_an_outage_is_known_as_one_by_those_that_are_suspect() -> None:
    assert scopes([down(0)], {SAP: 25}) == [("provider", 1)]
    assert scopes([down(0)], {SAP: 3}) == []
    assert scopes([down(0, kind="reauthorization_required")], {SAP: 39}) == []


def test_makini_as_a_whole_is_known_by_suspects_of_all_providers() -> None:
    everywhere = {SAP: 39, ("default", "UpKeep"): 60, ("default", "Maximo"): 700}
    assert scopes([down(0)], everywhere)[0] == ("app", 1)


def test_twelve_that_fall_at_one_moment_are_one_cause_however_small_a_share() -> None:
    burst = [down(n, "Maximo", ago=n % 9) for n in range(12)]
    assert scopes(burst, {}) == [("provider", 12)]
    assert scopes(burst[:11], {}) == []
    spread = [down(n, "Maximo", ago=20 * n) for n in range(12)]
    assert scopes(spread, {}) == []


@pytest.mark.parametrize(
    ("failing", "of", "expected"),
    [(4, 8, []), (5, 10, [("provider", 5)]), (5, 12, []), (6, 12, [("provider", 6)])],
)
def test_one_root_cause_is_at_least_five_and_half_of_a_providers(
    failing: int, of: int, expected: list[tuple[str, int]]
) -> None:
    """INTERFACE, "Policy defaults": all at one moment."""
    totals = {SAP: of, ("default", "UpKeep"): 60}
    causes = find_causes([down(n) for n in range(failing)], totals, {}, POLICY)
    assert [(cause.scope, len(cause.members)) for cause in causes] == expected


def test_some_of_every_provider_at_one_moment_are_the_app() -> None:
    some = [down(n, provider, ago=n % 9) for provider in ("SAP", "Maximo") for n in range(12)]
    assert scopes(some, {})[0] == ("app", 24)


def test_one_more_that_falls_beside_a_providers_outage_does_not_make_it_the_apps() -> None:
    outage = [down(n, ago=n % 9) for n in range(40)]
    assert scopes([*outage, down(1, "Maximo")], {})[0] == ("provider", 40)


def test_what_falls_alone_hours_later_is_an_incident_of_its_own() -> None:
    old = [down(n, "Maximo", ago=300 + n) for n in range(6)]
    wide = Open(
        "i1",
        "provider",
        "unreachable",
        "default",
        "Maximo",
        NOW,
        dict.fromkeys([trouble.connection_id for trouble in old], "unreachable"),
    )
    decision = decide(
        [*old, down(99, "Maximo")], [wide], past={}, totals=TOTALS, policy=POLICY, now=NOW
    )
    assert [(wanted.id, list(wanted.members)) for wanted in decision.wanted] == [
        (None, ["Maximo-099"])
    ]


@given(
    st.lists(
        st.lists(
            st.tuples(
                st.integers(0, 12),
                st.sampled_from(["SAP", "UpKeep"]),
                st.sampled_from(["unreachable", "reauthorization_required"]),
            ),
            max_size=20,
        ),
        min_size=2,
        max_size=8,
    ),
    st.integers(0, 40),
)
def test_however_it_goes_a_cause_is_open_once_and_deciding_again_changes_nothing(
    steps: list[list[tuple[int, str, str]]], suspect: int
) -> None:
    totals = {SAP: 12, ("default", "UpKeep"): 30}
    opened: dict[str, Open] = {}
    past: dict[str, Past] = {}
    since: dict[str, datetime] = {}
    made = 0
    for number, step in enumerate(steps):
        now = NOW + 7 * number * MINUTE
        kinds = {f"{provider}-{n}": (provider, kind) for n, provider, kind in step}
        since = {one: since.get(one, now) for one in kinds}
        troubles = [Trouble(one, "default", p, k, since[one]) for one, (p, k) in kinds.items()]
        for again in (False, True):
            decision = decide(
                troubles,
                list(opened.values()),
                past=past,
                totals=totals,
                policy=POLICY,
                now=now,
                suspects={SAP: suspect},
            )
            if again:
                assert not decision.wanted
                assert not decision.resolved
                break
            for gone in [*decision.resolved, *(m for w in decision.wanted for m in w.merged)]:
                one = opened.pop(gone)
                past |= {m: Past(gone, one.scope, k, now) for m, k in one.members.items()}
            for wanted in decision.wanted:
                made += wanted.id is None
                identifier = wanted.id or f"n{made}"
                opened[identifier] = Open(
                    identifier,
                    wanted.scope,
                    wanted.kind,
                    wanted.app,
                    wanted.provider,
                    now,
                    dict(wanted.members),
                )
            causes = Counter(
                (one.scope, one.app, one.provider, one.kind)
                for one in opened.values()
                if one.scope != "connection"
            )
            assert all(count == 1 for count in causes.values())
            members = Counter(member for one in opened.values() for member in one.members)
            assert members == Counter(kinds.keys())


def of_customer(number: int, customer: str) -> Trouble:
    return Trouble(f"c{number}", "default", f"P{customer}", "inactive", NOW, customer)


def test_several_customers_of_different_providers_at_one_moment_are_the_apps() -> None:
    """Each of them alone would be one of its customer."""
    customers = ("a", "b", "c")
    totals = {("default", f"P{each}"): 100 for each in customers}
    standing = {("default", each): {f"P{each}": ProviderCounts(8)} for each in customers}
    hit = [of_customer(i * 10 + n, each) for i, each in enumerate(customers) for n in range(8)]
    [cause] = find_causes(hit, totals, {}, POLICY, standing)
    assert (cause.scope, len(cause.members)) == ("app", 24)
    [cause] = find_causes(hit[:8], totals, {}, POLICY, standing)
    assert (cause.scope, cause.customer_id) == ("customer", "a")
