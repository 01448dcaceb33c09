"""Universes nobody arranged: whatever happens in them, the oracle finds nothing broken."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.repetitions import IN_TEST
from tests.simulation import begun
from tests.simulation.__main__ import again, parser
from tests.simulation.begun import is_asked_for, universes
from tests.simulation.chosen import REPLAYED
from tests.simulation.known import REGRESSIONS
from tests.simulation.makini.personality import LIBERTIES_FROM, MORE_LIBERTIES_FROM

ROOT = Path(__file__).parents[2]


def simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    # A process of its own: it replaces time and chance, and crashed tasks stay for good.
    return subprocess.run(
        [sys.executable, "-m", "tests.simulation", *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


def trace_of(seed: int, done: subprocess.CompletedProcess[str]) -> str:
    """The digest of all that happened in this universe."""
    [line] = [line for line in done.stdout.splitlines() if line.startswith(f"seed {seed}: ")]
    return line.rpartition(" trace ")[2]


@pytest.mark.timeout(1800)  # of CPU it takes a minute and a half, on a busy machine minutes
def test_no_universe_breaks_an_invariant_and_one_replays_bit_for_bit_wherever_it_is_lived() -> None:
    """In one process, since each takes as long to start as two universes to live through; the one
    is lived in another process, and once more in that."""
    done = universes()
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "60 seeds, 0 broken"
    twice = simulate("--seed", str(REPLAYED), "--brief", "--twice", "--trace")
    assert twice.returncode == 0, twice.stdout + twice.stderr
    assert len(twice.stdout.splitlines()) > 100
    assert trace_of(REPLAYED, twice) == trace_of(REPLAYED, done)


def test_they_begin_before_the_tests_where_theirs_is_sure_to_run() -> None:
    for asked in ("tests", "tests/simulation", "tests/simulation/test_universes.py"):
        assert is_asked_for([str(ROOT / asked)], "", IN_TEST), asked
    for asked in ("tests/notify", "tests/simulation/test_universes.py::test_one"):
        assert not is_asked_for([str(ROOT / asked)], "", IN_TEST), asked
    assert not is_asked_for([str(ROOT / "tests")], "bit_for_bit", IN_TEST)
    assert not is_asked_for([str(ROOT / "tests")], "", "soak")


def test_universes_that_do_not_end_are_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(begun, "SAID", tmp_path / "said")
    monkeypatch.setattr(begun, "ERRORS", tmp_path / "errors")
    monkeypatch.setattr(begun, "CODE", tmp_path / "code")
    begun.SAID.write_text("seed 1: holds\n")
    begun.ERRORS.write_text("")
    with pytest.raises(TimeoutError, match=r"not ended after 0\.1 s\. seed 1: holds"):
        universes(patience=0.1)


def test_a_universe_that_broke_is_replayed_as_it_was_asked_for() -> None:
    asked = parser().parse_args(["--chosen", "--brief", "--kinds", "calls logins", "--lull", "2"])
    said = again(asked, 13001)
    assert said == "--seed 13001 --brief --lull 2.0 --kinds 'calls logins' --trace"
    assert again(parser().parse_args(["--seeds", "9"]), 7) == "--seed 7 --trace"


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("first", range(1, 401, 100))
def test_four_hundred_universes_break_no_invariant(first: int) -> None:
    done = simulate("--first", str(first), "--seeds", "100")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("first", [LIBERTIES_FROM, MORE_LIBERTIES_FROM])
def test_a_makini_that_takes_every_liberty_breaks_no_invariant(first: int) -> None:
    done = simulate("--first", str(first), "--seeds", "60")
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
