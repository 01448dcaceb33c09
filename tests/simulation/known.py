"""Defects that are known and still open: shown with each universe that meets them, never hidden."""

from collections.abc import Sequence

KNOWN: tuple[tuple[str, str], ...] = ()
"""The beginning of what the oracle says, and which issue will fix it."""

REGRESSIONS: tuple[str, ...] = (
    "--seed 76 --brief",
    "--seed 302",
    "--seed 1387",
    "--seed 1469",
    "--seed 2034 --small",
    "--seed 4021",
    "--seed 6065",
    "--seed 6089",
    "--seed 6104",
    "--seed 6124",
    "--seed 6125",
    "--seed 7035",
    "--seed 8055",
    "--seed 8122",
    "--seed 9224",
    "--seed 9234",
    "--seed 9349",
    "--seed 9352",
    "--seed 9409",
    "--seed 9759",
    "--seed 9914",
    "--seed 11025 --small",
    "--seed 11705",
    "--seed 11800",
    "--seed 12002",
    "--seed 12059",
    "--seed 12546",
    "--seed 13064",
    "--seed 1380",
    "--seed 13718 --small",
    "--seed 16034 --small",
    "--seed 16045 --small",
    "--seed 15002 --small",
    "--seed 15009 --small",
    "--seed 20065",
    "--seed 30058 --brief",
    "--seed 30067 --brief",
    "--seed 30074 --brief",
    "--seed 30088 --brief",
    "--seed 30108 --brief",
    "--seed 30300 --brief",
    "--seed 30508 --brief",
    "--seed 30509 --brief",
    "--seed 30796 --brief",
    "--seed 31022 --brief",
    "--seed 31063 --brief",
    "--seed 31174 --brief",
    "--seed 31382 --brief",
    "--seed 31192 --brief",
    "--seed 31582 --brief",
    "--seed 31866 --brief",
    "--seed 31745 --brief",
    "--seed 31898 --brief",
    "--seed 32012 --brief",
    "--seed 32083 --brief",
    "--seed 32213 --brief",
    "--seed 32225 --brief",
    "--seed 32302 --brief",
    "--seed 32466 --brief",
    "--seed 32495 --brief",
    "--seed 32542 --brief",
    "--seed 32782 --brief",
    "--seed 32840 --brief",
    "--seed 33020 --brief",
    "--seed 33153 --brief",
    "--seed 32846 --brief",
    "--seed 33342 --brief",
    "--seed 79 --connections 6 --kinds customer",
    "--seed 33403 --brief",
    "--seed 33507 --brief",
    "--seed 32491 --brief",
    "--seed 33551 --brief",
    "--seed 33731 --brief",
    "--seed 33733 --brief",
    "--seed 33817 --brief",
    "--seed 33904 --brief",
    "--seed 34100 --brief",
    "--seed 34354 --brief",
    "--seed 34387 --brief",
    "--seed 34785 --brief",
    "--seed 34839 --brief",
    "--seed 35003 --brief",
    "--seed 35137 --brief",
    "--seed 35229 --brief",
    "--seed 35244 --brief",
    "--seed 60078 --brief",
    "--seed 60145 --brief",
    "--seed 70145 --brief",
    "--seed 50117 --kinds customer",
    "--seed 50122 --kinds customer",
    "--seed 50146 --kinds customer",
    "--seed 50156 --kinds customer",
    "--seed 5 --small --kinds doubted",
    "--seed 15075 --small",
    "--seed 37 --kinds storm",
    "--seed 5 --brief --kinds relost",
)
"""Universes that broke, and hold since the product was fixed."""


def split(broken: Sequence[str]) -> tuple[list[str], list[str]]:
    """What is new, and what is known with the issue that owns it."""
    new: list[str] = []
    known: list[str] = []
    for line in broken:
        owner = next((issue for start, issue in KNOWN if line.startswith(start)), None)
        if owner is None:
            new.append(line)
        else:
            known.append(f"{line} ({owner})")
    return new, known
