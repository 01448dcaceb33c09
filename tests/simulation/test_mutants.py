"""The known defects of `--mutants`: each can still be planted, and planting changes what runs."""

from importlib import import_module
from pathlib import Path

import pytest

from tests.simulation import planting
from tests.simulation.mutants import MUTANTS
from tests.simulation.planting import Edit, Mutant, NotPlanted
from tests.simulation.test_universes import simulate


def test_there_are_at_least_thirty_each_with_a_name_of_its_own() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 30


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_place_of_each_defect_is_still_there_just_once(mutant: Mutant) -> None:
    texts: dict[str, str] = {}
    for edit in mutant.edits:
        texts[edit.file], _ = edit.changed(texts.get(edit.file))
        compile(texts[edit.file], edit.file, "exec")


def test_two_changes_of_one_file_are_planted_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = tmp_path / "two_guards.py"
    house.write_text("def first():\n    return 1\n\n\ndef second():\n    return 2\n")
    monkeypatch.setattr(planting, "ROOT", tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    two_guards = import_module("two_guards")
    edits = (
        Edit("two_guards.py", "    return 1\n", "    return 10\n"),
        Edit("two_guards.py", "    return 2\n", "    return 20\n"),
    )
    Mutant("both", "", edits).plant()
    assert (two_guards.first(), two_guards.second()) == (10, 20)


def test_a_defect_whose_place_is_gone_is_refused() -> None:
    gone = Edit("linekeeper/outbox/queue.py", "no such text anywhere", "")
    with pytest.raises(NotPlanted):
        Mutant("gone", "", (gone,)).plant()


def test_a_value_of_a_module_is_planted_wherever_it_was_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_value.py").write_text(
        "LIMIT = 1000\nTWICE = (\n    LIMIT,\n    LIMIT,\n)\n\n\ndef both():\n    return TWICE\n"
    )
    (tmp_path / "its_user.py").write_text("from a_value import LIMIT, both\n")
    monkeypatch.setattr(planting, "ROOT", tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    its_user = import_module("its_user")
    edits = (
        Edit("a_value.py", "LIMIT = 1000\n", "LIMIT = 2000\n"),
        Edit("a_value.py", "    LIMIT,\n)\n", "    0,\n)\n"),
    )
    Mutant("value", "", edits).plant()
    assert (its_user.LIMIT, its_user.both()) == (2000, (2000, 0))


def test_a_defect_outside_every_function_and_value_is_refused() -> None:
    outside = Edit("linekeeper/outbox/queue.py", "clock import utcnow\n", "clock import  utcnow\n")
    with pytest.raises(NotPlanted):
        Mutant("outside", "", (outside,)).plant()


@pytest.mark.timeout(900)  # of CPU it takes seconds, on a busy machine minutes
@pytest.mark.soak
def test_a_planted_defect_is_found() -> None:
    done = simulate("--mutants", "merge-key-survives-the-claim")
    assert done.stdout.splitlines()[-1] == "found 1 of 1", done.stdout + done.stderr
