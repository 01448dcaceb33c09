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
class Finding:
    """`name` is the thing looked at, `text` what was found, `fix` what to do (empty: nothing)."""

    name: str
    level: Level
    text: str
    fix: str = ""


def ok(name: str, text: str) -> Finding:
    """All is well."""
    return Finding(name, Level.ok, text)


def warn(name: str, text: str, fix: str) -> Finding:
    """Works, but look at it."""
    return Finding(name, Level.warn, text, fix)


def wrong(name: str, text: str, fix: str) -> Finding:
    """Doesn't work."""
    return Finding(name, Level.wrong, text, fix)


def worst(findings: Iterable[Finding]) -> Level:
    """The worst level there is; `ok` if there are no findings."""
    levels = {finding.level for finding in findings}
    return next((level for level in (Level.wrong, Level.warn) if level in levels), Level.ok)
