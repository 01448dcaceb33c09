"""The credit ledger's decisions. Pure: entries in, entries or verdicts out.

The ledger is a list of signed entries; every figure is a sum over them, so that neither order nor
a second reading changes it. Makini has no balance API: all of this is an estimate of ours.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Literal, get_args

from linekeeper.refusal import FieldError
from linekeeper.text import SEPARATOR, counted

Reason = Literal["grant", "reserve", "release", "consume", "return", "adjust"]
LeakKind = Literal["duplicate", "inactive", "not in ledger", "not at Makini"]


class CreditError(FieldError):
    """Refused."""


@dataclass(frozen=True, slots=True)
class Tariff:
    """Credits for one connection (Makini docs: tiers; FAQ: on-premises doubles, MISSION H1).

    What a self-hosted connection costs isn't public; it is counted as on-premises, so that the
    estimate errs towards too many.
    """

    tiers: Mapping[str, int] = field(default_factory=lambda: {"I": 1, "II": 2, "III": 4})
    factors: Mapping[str, int] = field(
        default_factory=lambda: {"cloud": 1, "on-premises": 2, "self-hosted": 2}
    )

    def cost(self, tier: str, hosting: str) -> int:
        """Credits, or `CreditError` for a tier or hosting nobody knows."""
        if tier not in self.tiers:
            raise CreditError("tier", f"{tier!r} is not one of {', '.join(self.tiers)}")
        if hosting not in self.factors:
            raise CreditError("hosting", f"{hosting!r} is not one of {', '.join(self.factors)}")
        return self.tiers[tier] * self.factors[hosting]


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One line of the ledger; `delta` is what it does to the credits available."""

    subject: str | None
    """Whose credits: a connection's id, before there is one a planned connection's; None: all's."""
    delta: int
    reason: Reason
    at: datetime


@dataclass(frozen=True, slots=True)
class Balance:
    """Credits: `available` = `granted` - `reserved` - `consumed`; may be negative (overage)."""

    granted: int
    reserved: int
    consumed: int

    @property
    def available(self) -> int:
        """What a new implementation may still reserve."""
        return self.granted - self.reserved - self.consumed


def balance(entries: Iterable[LedgerEntry], subject: str | None = None) -> Balance:
    """The sums over all entries, or over one subject's."""
    sums: dict[Reason, int] = dict.fromkeys(get_args(Reason), 0)
    for entry in entries:
        if subject is None or entry.subject == subject:
            sums[entry.reason] += entry.delta
    return Balance(
        granted=sums["grant"],
        reserved=-(sums["reserve"] + sums["release"]),
        consumed=-(sums["consume"] + sums["return"] + sums["adjust"]),
    )


def reserve(
    entries: Sequence[LedgerEntry], subject: str, cost: int, at: datetime
) -> tuple[LedgerEntry, ...]:
    """Set `cost` aside for a connection that is to come; nothing if it already holds credits."""
    _positive(cost)
    own = balance(entries, subject)
    if own.reserved or own.consumed:
        return ()
    return (LedgerEntry(subject, -cost, "reserve", at),)


def consume(
    entries: Sequence[LedgerEntry], subject: str, cost: int, at: datetime
) -> tuple[LedgerEntry, ...]:
    """The connection is established: Makini charges now, and the reservation ends.

    One that has taken its credits already takes, or gives back, the difference.
    """
    _positive(cost)
    own = balance(entries, subject)
    if own.consumed:
        return (*_release(own, subject, at), *adjust(entries, subject, cost, at))
    return (*_release(own, subject, at), LedgerEntry(subject, -cost, "consume", at))


def adjust(
    entries: Sequence[LedgerEntry], subject: str, cost: int, at: datetime
) -> tuple[LedgerEntry, ...]:
    """What a connection costs turned out to be another: the difference, where it holds credits."""
    _positive(cost)
    held = balance(entries, subject).consumed
    return (LedgerEntry(subject, held - cost, "adjust", at),) if held and held != cost else ()


def refund(entries: Sequence[LedgerEntry], subject: str, at: datetime) -> tuple[LedgerEntry, ...]:
    """Disconnected, or never connected: whatever the subject holds returns; else nothing."""
    own = balance(entries, subject)
    back = (LedgerEntry(subject, own.consumed, "return", at),) if own.consumed else ()
    return (*_release(own, subject, at), *back)


def _release(own: Balance, subject: str, at: datetime) -> tuple[LedgerEntry, ...]:
    return (LedgerEntry(subject, own.reserved, "release", at),) if own.reserved else ()


def _positive(cost: int) -> None:
    if cost < 1:
        raise CreditError("cost", f"{cost} is not a positive number of credits")


@dataclass(frozen=True, slots=True)
class PlannedConnection:
    """A connection an implementation expects: when it connects, and when it will end, if known."""

    subject: str
    cost: int
    connects: date
    ends: date | None = None


@dataclass(frozen=True, slots=True)
class Week:
    """A week of the forecast; `monday` begins it."""

    monday: date
    need: int
    """Credits that connections of this week take, less what ending ones return."""
    left: int
    """Credits available at its end; negative: it doesn't fit."""


def need_by_week(
    entries: Sequence[LedgerEntry],
    planned: Iterable[PlannedConnection],
    today: date,
    weeks: int = 26,
) -> tuple[Week, ...]:
    """The portfolio's need for the coming `weeks`, and on to the last that is planned; this first.

    A reservation counts in the week it connects, not before; what should have connected already
    counts this week. A subject that has consumed its credits only returns them.
    """
    now = balance(entries)
    held = _holdings(entries)
    first = _monday(today)
    planned = list(planned)
    days = [day for charge in planned for day in (charge.connects, charge.ends) if day is not None]
    last = max([first + timedelta(weeks=weeks - 1), *map(_monday, days)])
    coming = range((last - first).days // 7 + 1)
    changes = dict.fromkeys((first + timedelta(weeks=n) for n in coming), 0)
    left = now.available + now.reserved
    spoken_for = {charge.subject for charge in planned}
    # Set aside for nobody in the plans: kept from the first week on.
    left -= sum(own.reserved for subject, own in held.items() if subject not in spoken_for)
    for charge in planned:
        if not (charge.subject in held and held[charge.subject].consumed):
            changes[max(_monday(charge.connects), first)] += charge.cost
        if charge.ends is not None:
            changes[max(_monday(charge.ends), first)] -= charge.cost
    result = []
    for monday, need in changes.items():
        left -= need
        result.append(Week(monday, need, left))
    return tuple(result)


def by_subject(entries: Iterable[LedgerEntry]) -> dict[str, list[LedgerEntry]]:
    grouped: dict[str, list[LedgerEntry]] = {}
    for entry in entries:
        if entry.subject is not None:
            grouped.setdefault(entry.subject, []).append(entry)
    return grouped


def _holdings(entries: Iterable[LedgerEntry]) -> dict[str, Balance]:
    return {subject: balance(own) for subject, own in by_subject(entries).items()}


def _monday(day: date) -> date:
    return day - timedelta(days=day.weekday())


@dataclass(frozen=True, slots=True)
class Override:
    """Somebody answers for starting although the credits won't do."""

    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether an implementation may start, and what to tell who asked."""

    allowed: bool
    message: str


def will_it_fit(available: int, costs: Sequence[int], override: Override | None = None) -> Fit:
    """Refuse what won't fit before it starts (MISSION B8), unless overridden with name and reason.

    An override without either is none.
    """
    need = sum(costs)
    short = max(need - max(available, 0), 0)
    figures = f"needs {counted(need, 'credit')}, {available} available (estimate)"
    if not short:
        return Fit(True, f"It {figures}.")
    if override is not None and override.by.strip() and override.reason.strip():
        by, reason = override.by.strip(), override.reason.strip()
        return Fit(True, f"It {figures}; {by} starts it all the same: {reason}")
    return Fit(
        False,
        f"It {figures}: {short} short. Buy credits, disconnect what isn't used, "
        "or override with a reason and your name.",
    )


@dataclass(frozen=True, slots=True)
class Listed:
    """A connection as Makini's live list shows it, `subject` being our ledger's name for it."""

    subject: str
    customer: str
    provider: str
    name: str
    status: str
    cost: int
    since: datetime
    charged_as: str = ""


@dataclass(frozen=True, slots=True)
class Leak:
    """Credits that do nothing, or that the ledger and Makini disagree about."""

    kind: LeakKind
    subject: str
    credits: int
    message: str


def find_leaks(entries: Iterable[LedgerEntry], live: Iterable[Listed]) -> tuple[Leak, ...]:
    """Compare the ledger with Makini's list: each connection leaks in one way at most.

    Of several connections of one customer, provider and name the oldest is the one meant.
    Pending ones cost nothing yet; a status nobody knows is taken as charged for.
    """
    holdings = _holdings(entries)
    listed = sorted(live, key=lambda charge: (charge.since, charge.subject))
    originals: dict[tuple[str, str, str], str] = {}
    leaks = []
    for charge in listed:
        status = _plain(charge.status)
        held = holdings.get(charge.subject, Balance(0, 0, 0)).consumed
        if status == "pending":
            if held:
                leaks.append(_leak("inactive", charge, held, "the ledger counts it, Makini waits"))
            continue
        if status == "inactive":
            leaks.append(_leak("inactive", charge, held, "Makini says Inactive: too few credits"))
            continue
        same = (_plain(charge.customer), _plain(charge.provider), _plain(charge.name))
        original = originals.setdefault(same, charge.subject)
        if original != charge.subject:
            leaks.append(_leak("duplicate", charge, held or charge.cost, f"the same as {original}"))
        elif not held:
            leaks.append(
                _leak("not in ledger", charge, charge.cost, "at Makini, not in the ledger")
            )
    known = {charge.subject for charge in listed}
    leaks += [
        Leak("not at Makini", subject, own.consumed, f"{subject}: in the ledger, not at Makini")
        for subject, own in sorted(holdings.items())
        if own.consumed and subject not in known
    ]
    return tuple(leaks)


def _leak(kind: LeakKind, listed: Listed, credits: int, what: str) -> Leak:
    said = SEPARATOR.split(listed.name.strip())  # Makini's name may begin with the customer's
    names = said if _plain(said[0]) == _plain(listed.customer) else [listed.customer, listed.name]
    return Leak(kind, listed.subject, credits, f"{' · '.join(names)}: {what}")


def _plain(text: str) -> str:
    """Return it as Makini's display names compare: without case, spaces, underscores, hyphens."""
    return "".join(char for char in text.casefold() if char not in " _-")
