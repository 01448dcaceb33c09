"""What the doctor says about one thing."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """`wrong` must be fixed, `warn` should be looked at."""

    ok = "ok"
    warn = "warn"
    wrong = "wrong"


@dataclass(frozen=True, slots=True)
class DoctorFinding:
    """`name` is the thing looked at, `text` what was found, `fix` what to do (empty: nothing)."""

    name: str
    level: Level
    text: str
    fix: str = ""


def ok(name: str, text: str) -> DoctorFinding:
    """All is well."""
    return DoctorFinding(name, Level.ok, text)


def warn(name: str, text: str, fix: str) -> DoctorFinding:
    """Works, but look at it."""
    return DoctorFinding(name, Level.warn, text, fix)


def wrong(name: str, text: str, fix: str) -> DoctorFinding:
    """Doesn't work."""
    return DoctorFinding(name, Level.wrong, text, fix)


def worst(findings: Iterable[DoctorFinding]) -> Level:
    """The worst level there is; `ok` if there are no findings."""
    levels = {finding.level for finding in findings}
    return next((level for level in (Level.wrong, Level.warn) if level in levels), Level.ok)
