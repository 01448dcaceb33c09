"""Each rule about imports says why it exists: who meets it should know what it is for."""

import re

from tests.house.test_who_writes_what import ROOT

_CONTRACT = "[[tool.importlinter.contracts]]"


def test_every_import_contract_says_why_it_exists() -> None:
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    begins = [number for number, line in enumerate(lines) if line == _CONTRACT]
    assert len(begins) >= 5
    silent = []
    for begin in begins:
        above = begin
        while lines[above - 1].startswith("#"):
            above -= 1
        if not re.match(r"# Why: \w+", lines[above]):
            silent.append(lines[begin + 1])
    assert silent == []
