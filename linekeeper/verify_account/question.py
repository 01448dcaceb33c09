"""A question about the account, and what a recording says of it. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from linekeeper.verify_account.recording import Exchange


class Confirmation(StrEnum):
    """How an assumption fared on this account."""

    seen_so = "seen so"
    seen_otherwise = "seen otherwise"
    not_seen = "not seen"


@dataclass(frozen=True, slots=True)
class AssumptionFinding:
    """What the recording says of one assumption; `settings` are those to use, by their name."""

    verdict: Confirmation
    evidence: str
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Assumption:
    """An assumption of ours about Makini; `judge` decides it from a recording alone."""

    name: str
    assumption: str
    judge: Callable[[Sequence[Exchange]], AssumptionFinding]


@dataclass(frozen=True, slots=True)
class AccountAnswer:
    """One question with what was found."""

    question: str
    assumption: str
    verdict: Confirmation
    evidence: str
    settings: Mapping[str, str]


def so(evidence: str, **settings: str) -> AssumptionFinding:
    """The account does as assumed."""
    return AssumptionFinding(Confirmation.seen_so, evidence, settings)


def otherwise(evidence: str, **settings: str) -> AssumptionFinding:
    """The account does something else."""
    return AssumptionFinding(Confirmation.seen_otherwise, evidence, settings)


def not_seen(evidence: str) -> AssumptionFinding:
    """Nothing that was recorded decides it; `evidence` says what would."""
    return AssumptionFinding(Confirmation.not_seen, evidence)


def decided(holds: bool, evidence: str, **settings: str) -> AssumptionFinding:
    """`so` or `otherwise`, as `holds` says."""
    return (so if holds else otherwise)(evidence, **settings)
