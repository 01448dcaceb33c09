from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linekeeper.config import HealthPolicy
from linekeeper.incidents.causes import Customers, Trouble
from linekeeper.incidents.decide import IncidentDecision, Open, Past, decide

NOW = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)
POLICY = HealthPolicy()
KINDS = ["degraded", "unreachable", "reauthorization_required", "inactive", "unknown"]


class World:
    """Applies decisions the way the database does."""

    def __init__(self) -> None:
        self.open: dict[str, Open] = {}
        self.past: dict[str, Past] = {}
        self.causes: dict[str, str] = {}
        self.whose: dict[str, frozenset[str | None]] = {}
        self.firsts = 0
        self.now = NOW

    def decide(
        self,
        troubles: list[Trouble],
        totals: dict[tuple[str, str], int],
        customers: Customers | None = None,
    ) -> IncidentDecision:
        return decide(
            troubles,
            list(self.open.values()),
            past=self.past,
            totals=totals,
            policy=POLICY,
            now=self.now,
            customers=customers or {},
        )

    def step(
        self,
        troubles: list[Trouble],
        totals: dict[tuple[str, str], int],
        customers: Customers | None = None,
    ) -> IncidentDecision:
        decision = self.decide(troubles, totals, customers)
        for wanted in decision.wanted:
            for loser in wanted.merged:
                self.close(loser)
        for identifier in decision.resolved:
            self.close(identifier)
        for wanted in decision.wanted:
            if wanted.id is None:
                self.firsts += 1
            identifier = wanted.id or f"i{self.firsts:04}"
            opened_at = self.open[identifier].opened_at if identifier in self.open else self.now
            owners = {one.customer_id for one in troubles if one.connection_id in wanted.members}
            self.whose[identifier] = self.whose.get(identifier, frozenset()) | owners
            self.open[identifier] = Open(
                identifier,
                wanted.scope,
                wanted.kind,
                wanted.app,
                wanted.provider,
                opened_at,
                dict(wanted.members),
                wanted.customer_id,
                self.whose[identifier],
            )
            self.causes[identifier] = wanted.cause
        return decision

    def close(self, identifier: str) -> None:
        gone = self.open.pop(identifier)
        del self.causes[identifier]
        for member, kind in gone.members.items():
            self.past[member] = Past(identifier, gone.scope, kind, self.now)


def trouble(number: int, kind: str, provider: str = "SAP ECC", app: str = "default") -> Trouble:
    return Trouble(f"c{number:03}", app, provider, kind)


troubles = st.lists(
    st.builds(
        trouble,
        st.integers(0, 30),
        st.sampled_from(KINDS),
        st.sampled_from(["SAP ECC", "UpKeep", "Maximo"]),
    ),
    max_size=25,
    unique_by=lambda trouble: trouble.connection_id,
)
totals = st.fixed_dictionaries(
    {("default", name): st.integers(0, 30) for name in ("SAP ECC", "UpKeep", "Maximo")}
)


@given(st.lists(st.tuples(troubles, totals, st.integers(1, 90)), max_size=12))
def test_whatever_happens_each_trouble_is_in_exactly_one_open_incident(steps) -> None:
    world = World()
    for drawn, total, minutes in steps:
        # A connection keeps its provider, whatever the generator drew.
        current = [trouble(int(one.connection_id[1:]), one.kind) for one in drawn]
        world.now += timedelta(minutes=minutes)
        world.step(current, total)
        members = [member for one in world.open.values() for member in one.members]
        assert sorted(members) == sorted(one.connection_id for one in current)
        again = world.decide(current, total)
        assert not again.wanted
        assert not again.resolved


@given(troubles, totals)
def test_causes_of_open_incidents_are_unique(current, total) -> None:
    decision = decide(current, [], past={}, totals=total, policy=POLICY, now=NOW)
    causes = [wanted.cause for wanted in decision.wanted]
    assert len(causes) == len(set(causes))


def test_five_of_a_provider_failing_alike_are_one_incident() -> None:
    world = World()
    world.step([trouble(n, "unreachable") for n in range(40)], {("default", "SAP ECC"): 60})
    [incident] = world.open.values()
    assert (incident.scope, len(incident.members)) == ("provider", 40)


def test_five_of_twenty_are_five_incidents() -> None:
    world = World()
    world.step([trouble(n, "unreachable") for n in range(5)], {("default", "SAP ECC"): 20})
    assert len(world.open) == 5


def test_growing_into_one_root_cause_keeps_the_oldest_message() -> None:
    world = World()
    total = {("default", "SAP ECC"): 10}
    for size in range(1, 11):
        world.now += timedelta(minutes=5)
        world.step([trouble(n, "unreachable") for n in range(size)], total)
    [incident] = world.open.values()
    assert incident.id == "i0001"
    assert world.firsts == 4  # those before five were failing


def test_a_member_that_fails_differently_leaves_for_an_incident_of_its_own() -> None:
    world = World()
    total = {("default", "SAP ECC"): 10}
    fleet = [trouble(n, "unreachable") for n in range(6)]
    world.step(fleet, total)
    fleet[0] = trouble(0, "reauthorization_required")
    world.step(fleet, total)
    assert sorted((one.scope, len(one.members)) for one in world.open.values()) == [
        ("connection", 1),
        ("provider", 5),
    ]


def test_a_whole_app_failing_alike_is_one_incident_of_the_app() -> None:
    world = World()
    fleet = [trouble(n, "unreachable", ["SAP ECC", "UpKeep"][n % 2]) for n in range(10)]
    world.step(fleet, {("default", "SAP ECC"): 5, ("default", "UpKeep"): 5})
    assert [one.scope for one in world.open.values()] == ["app"]


def test_a_fall_within_an_hour_of_the_resolve_reopens_the_same_incident() -> None:
    world = World()
    total = {("default", "SAP ECC"): 10}
    world.step([trouble(1, "unreachable")], total)
    world.now += timedelta(minutes=10)
    world.step([], total)
    world.now += timedelta(minutes=50)
    decision = world.step([trouble(1, "unreachable")], total)
    assert [(wanted.id, wanted.reopen) for wanted in decision.wanted] == [("i0001", True)]
    world.step([], total)
    world.now += timedelta(minutes=61)
    world.step([trouble(1, "unreachable")], total)
    assert list(world.open) == ["i0002"]


@pytest.mark.parametrize("scope", ["connection", "provider"])
def test_another_kind_of_trouble_within_the_hour_is_an_incident_of_its_own(scope: str) -> None:
    world = World()
    total = {("default", "SAP ECC"): 10}
    size = 1 if scope == "connection" else 8
    world.step([trouble(n, "unreachable") for n in range(size)], total)
    world.now += timedelta(minutes=10)
    world.step([], total)
    world.now += timedelta(minutes=1)
    world.step([trouble(n, "reauthorization_required") for n in range(size)], total)
    assert world.open.keys().isdisjoint({"i0001"})


def test_a_provider_that_falls_again_within_the_hour_reopens_its_incident() -> None:
    world = World()
    total = {("default", "SAP ECC"): 10}
    fleet = [trouble(n, "unreachable") for n in range(8)]
    world.step(fleet, total)
    world.now += timedelta(minutes=10)
    world.step([], total)
    world.now += timedelta(minutes=10)
    world.step(fleet, total)
    assert list(world.open) == ["i0001"]
    assert world.firsts == 1
