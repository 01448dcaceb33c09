"""Which tests begin first where several workers share them: those that take longest by themselves.

Most of their seconds they wait, for a part to be missed or a process to start: beside others that
costs nothing, at the end all would wait for them. `longest.txt` has the seconds of each, as
`pytest --durations=60` tells them; a test that isn't there begins later. So does that of the
universes, which have begun by themselves (`tests.simulation.begun`): who asks early only waits.
"""

from pathlib import Path

import pytest

from tests.repetitions import TESTS

FILE = Path(__file__).with_name("longest.txt")
SECONDS = {
    name: float(seconds)
    for seconds, name in (line.split() for line in FILE.read_text().splitlines())
}


def longest_first(items: list[pytest.Item]) -> None:
    """Sort `items`; all that are not in the file keep their order, and so do those of a group."""
    items.sort(key=lambda item: -_seconds(item))


def _seconds(item: pytest.Item) -> float:
    if item.get_closest_marker("xdist_group") is not None:
        return 0
    return SECONDS.get(item.nodeid.partition("[")[0].removeprefix(TESTS), 0)
