"""Universes nobody arranged: whatever happens in them, the oracle finds nothing broken."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.known import REGRESSIONS

ROOT = Path(__file__).parents[2]
FIRSTS = {7: 5, 20: 5}
"""Some of those that `make soak` runs all of, in portions; another is replayed."""


def simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    # A process of its own: it replaces time and chance, and crashed tasks stay for good.
    return subprocess.run(
        [sys.executable, "-m", "tests.simulation", *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.timeout(1800)  # of CPU it takes seconds, on a busy machine minutes
@pytest.mark.parametrize(("first", "count"), FIRSTS.items())
def test_no_universe_breaks_an_invariant(first: int, count: int) -> None:
    done = simulate("--first", str(first), "--seeds", str(count))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == f"{count} seeds, 0 broken"


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("first", range(1, 401, 100))
def test_four_hundred_universes_break_no_invariant(first: int) -> None:
    done = simulate("--first", str(first), "--seeds", "100")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("universe", REGRESSIONS)
def test_a_universe_that_broke_once_holds(universe: str) -> None:
    done = simulate(*universe.split())
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_day_without_a_peer_breaks_no_invariant() -> None:
    done = simulate(
        "--first", "3100", "--seeds", "4", "--lull", "24", "--pace", "12", "--connections", "3",
        "--kinds", "away logins late webhooks",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(900)
def test_a_seed_replays_bit_for_bit_in_another_process() -> None:
    first, again = (
        simulate("--seed", "1", "--days", "0.01", "--trace"),
        simulate("--seed", "1", "--days", "0.01", "--trace"),
    )
    assert first.returncode == 0, first.stdout + first.stderr
    without_seconds = [
        [line for line in done.stdout.splitlines() if not line.startswith("seed ")]
        for done in (first, again)
    ]
    assert len(without_seconds[0]) > 100
    assert without_seconds[0] == without_seconds[1]
