"""Whatever fails and recovers, over hours: one incident a trouble, and one a cause."""

from collections import Counter, defaultdict
from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from linekeeper.incidents.causes import ProviderCounts, Trouble
from tests.incidents.test_decide import KINDS, World

PROVIDERS, CUSTOMERS = ("SAP ECC", "UpKeep", "Maximo"), ("acme", "bolt", "cog")
FLEET = {
    f"c{number:03}": (PROVIDERS[number % 2 + number // 20], CUSTOMERS[number % 7 % 3])
    for number in range(24)
}
TOTALS = dict(Counter(("default", provider) for provider, _ in FLEET.values()))


def standings() -> dict[tuple[str, str], dict[str, ProviderCounts]]:
    """How many connections each customer has of each provider."""
    found: defaultdict[tuple[str, str], dict[str, ProviderCounts]] = defaultdict(dict)
    for (provider, customer), count in Counter(FLEET.values()).items():
        found["default", customer][provider] = ProviderCounts(count)
    return found


class Clocked(World):
    """Notes since when each connection is in its trouble."""

    def __init__(self) -> None:
        super().__init__()
        self.since: dict[tuple[str, str], datetime] = {}

    def live(self, failing: dict[str, str], minutes: int) -> list[Trouble]:
        self.now += timedelta(minutes=minutes)
        self.since = {each: self.since.get(each, self.now) for each in failing.items()}
        troubles = []
        for (name, kind), since in self.since.items():
            provider, customer = FLEET.get(name, ("SAP ECC", None))
            troubles.append(Trouble(name, "default", provider, kind, since, customer))
        return troubles


failing = st.dictionaries(
    st.sampled_from(sorted(FLEET)), st.sampled_from(KINDS[1:3]), max_size=len(FLEET)
)


@given(st.lists(st.tuples(failing, st.integers(1, 90)), max_size=12))
def test_no_two_open_incidents_have_one_cause(
    steps: list[tuple[dict[str, str], int]],
) -> None:
    world = Clocked()
    for each, minutes in steps:
        current = world.live(each, minutes)
        world.step(current, TOTALS, standings())
        members = [member for incident in world.open.values() for member in incident.members]
        assert sorted(members) == sorted(each)
        assert len(set(world.causes.values())) == len(world.causes), world.causes
        again = world.decide(current, TOTALS, standings())
        assert not again.wanted
        assert not again.resolved


def test_who_falls_alone_is_not_put_back_into_an_incident_whose_cause_is_taken() -> None:
    """An outage ended; a lone trouble grew into the next one, and is all that is left of it."""
    world, total = Clocked(), {("default", "SAP ECC"): 30}

    def fall(numbers: range, *, minutes: int) -> None:
        down = {f"s{number:02}": "unreachable" for number in (0, *numbers)}
        world.step(world.live(down, minutes), total)

    fall(range(0), minutes=0)
    fall(range(1, 13), minutes=240)  # twelve at one moment: not with the one that fell before
    assert len(world.open) == 2
    fall(range(0), minutes=60)
    fall(range(13, 29), minutes=10)  # half of the provider's: with it
    fall(range(0), minutes=10)
    [left] = world.open.values()
    assert (left.scope, set(left.members)) == ("provider", {"s00"})
    fall(range(1, 2), minutes=10)
    assert sorted(world.causes.values()) == [
        "connection:s01:health",
        "provider:default:SAP ECC:unreachable",
    ]
