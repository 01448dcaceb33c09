"""What the oracle of availability takes for known of a connection, from when on."""

from datetime import timedelta
from pathlib import Path

import pytest

from linekeeper.availability.decide import WaitedFor
from tests.simulation.availability import Truth
from tests.simulation.faults import Trouble
from tests.simulation.plan import Plan
from tests.simulation.universe import Universe

MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(("apart", "flaps"), [(12, True), (45, False)])
def test_what_fell_three_times_within_an_hour_may_be_unknown_until_it_was_quiet(
    apart: int, flaps: bool
) -> None:
    """Universe 13780: it is degraded then, as is documented, and nobody says whose time that is."""
    universe = Universe(Plan(1, kinds=frozenset({"none"})), Path())
    universe.people = Trouble(universe)
    began = universe.begins
    connection = universe.truth.connect(
        name="Acme", email="it@acme.example", provider="maximo", company="Acme", now=began
    )
    for fall in range(3):
        at = began + (10 + fall * apart) * MINUTE
        universe.truth.lose_login(connection, at)
        universe.truth.restore_login(connection, at + MINUTE)
    last = began + (11 + 2 * apart) * MINUTE
    truth = Truth(universe, connection)
    universe.loop.close()
    known = truth.within(last + 20 * MINUTE, last + 25 * MINUTE)
    assert known == ({WaitedFor.healthy, WaitedFor.unknown} if flaps else {WaitedFor.healthy})
    assert truth.within(last + 40 * MINUTE, last + 45 * MINUTE) == {WaitedFor.healthy}
