"""What is to be implemented: the operator's answers, checked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal, TypeVar, cast, get_args

from linekeeper.refusal import Refusal
from linekeeper.text import counted

Complexity = Literal["standard", "custom", "enterprise"]
Hosting = Literal["cloud", "on-premises", "self-hosted"]
COMPLEXITIES: tuple[Complexity, ...] = get_args(Complexity)
HOSTINGS: tuple[Hosting, ...] = get_args(Hosting)

MAX_SYSTEMS = 50
MAX_CUSTOM_WORKFLOWS = 50
MAX_YEARS_AHEAD = 5
MAX_NAME = 120

T = TypeVar("T", bound=str)
V = TypeVar("V")


class PlanError(Refusal, ValueError):
    """Refused, and nothing was made: `field` is what to change, `reason` why."""

    def __str__(self) -> str:
        return f"{self.field}: {self.reason}"

    def named(self, names: Mapping[str, str]) -> "PlanError":
        """The same, its fields called as in `names`."""
        [(field, reason), *others] = [(names.get(name, name), why) for name, why in self.faults]
        return PlanError(field, reason, *others)


class FormErrors:
    """Collects what can't be, so that a form shows all of it at once."""

    def __init__(self) -> None:
        self._faults: list[PlanError] = []

    def of(self, check: Callable[[], V]) -> V:
        """What `check` gives; nothing to be relied on where that raises `PlanError`."""
        try:
            return check()
        except PlanError as fault:
            self._faults.append(fault)
            return cast("V", None)

    def end(self) -> None:
        """Raise one `PlanError` that names everything found, if there was anything."""
        if self._faults:
            # Of two changes one may be the same.
            first, *others = dict.fromkeys(each for fault in self._faults for each in fault.faults)
            raise PlanError(*first, *others)


@dataclass(frozen=True, slots=True)
class Scope:
    """One implementation as it was agreed with the customer. Make it with `parse_scope`."""

    complexity: Complexity
    hosting: Hosting
    systems: int
    custom_workflows: int
    kickoff: date
    country: str | None = None
    """ISO 3166 alpha-2, for the public holidays; None counts weekends only."""
    committed: date | None = None
    """The go-live date promised to the customer."""
    system_names: tuple[str, ...] = ()
    vpn: bool = False
    """Whether Makini reaches a system through a VPN tunnel."""
    hostings: tuple[Hosting, ...] = ()
    """The hosting of each system, where they differ."""

    @property
    def every_hosting(self) -> frozenset[Hosting]:
        """Every hosting that one of its systems has."""
        return frozenset(self.hostings or (self.hosting,))

    @property
    def hosting_shown(self) -> str:
        """How its systems are hosted, in words."""
        return ", ".join(hosting for hosting in HOSTINGS if hosting in self.every_hosting)

    def hosting_of(self, system: int) -> Hosting:
        """How a system is hosted; it is counted from 1."""
        return self.hostings[system - 1] if self.hostings else self.hosting


def parse_scope(
    *,
    complexity: str,
    kickoff: date | str,
    today: date,
    hosting: str = "cloud",
    systems: int | str = 1,
    custom_workflows: int | str = 0,
    country: str | None = None,
    committed: date | str | None = None,
    system_names: Sequence[str] = (),
    vpn: bool = False,
    hostings: Sequence[str] = (),
) -> Scope:
    """The scope, or `PlanError` with the fields that can't be and why.

    `today` is the date where the operator sits: a kickoff before it is refused. Whether the
    country is known is asked of `calendar.WorkingCalendar`, which every plan needs anyway.
    """
    faults = FormErrors()
    start = faults.of(lambda: _kickoff(kickoff, today))
    promised = faults.of(lambda: _committed(committed, start, today))
    count = faults.of(lambda: _count("systems", systems, least=1, most=MAX_SYSTEMS))
    names = faults.of(lambda: _names(system_names, count))
    scope = Scope(
        complexity=faults.of(lambda: _one_of("complexity", complexity, COMPLEXITIES)),
        hosting=faults.of(lambda: _one_of("hosting", hosting, HOSTINGS)),
        systems=count,
        custom_workflows=faults.of(
            lambda: _count("custom_workflows", custom_workflows, least=0, most=MAX_CUSTOM_WORKFLOWS)
        ),
        kickoff=start,
        country=faults.of(lambda: parse_country(country)),
        committed=promised,
        system_names=names,
        vpn=faults.of(lambda: _vpn(hosting, vpn=vpn)),
        hostings=faults.of(lambda: tuple(_one_of("hosting", each, HOSTINGS) for each in hostings)),
    )
    faults.end()
    return scope


def _kickoff(value: date | str, today: date) -> date:
    start = _day("kickoff", value)
    if start < today:
        raise PlanError("kickoff", f"{start} is in the past")
    _not_too_far("kickoff", start, today)
    return start


def _committed(value: date | str | None, start: date | None, today: date) -> date | None:
    if value is None:
        return None
    promised = _day("committed", value)
    if start is not None and promised < start:
        raise PlanError("committed", f"{promised} is before the kickoff on {start}")
    _not_too_far("committed", promised, today)
    return promised


def _vpn(hosting: str, *, vpn: bool) -> bool:
    if vpn and hosting == "self-hosted":
        raise PlanError("vpn", "a self-hosted Makini is inside the network and needs no tunnel")
    return vpn


def _names(values: Sequence[str], count: int | None) -> tuple[str, ...]:
    names = tuple(_name(name) for name in values)
    if count is not None and len(names) > count:
        raise PlanError("systems", f"{len(names)} names for {counted(count, 'system')}")
    return names


def _one_of(field: str, value: str, known: tuple[T, ...]) -> T:
    for candidate in known:
        if value == candidate:
            return candidate
    raise PlanError(field, f"{_shown(value)} is not one of {', '.join(known)}")


def _count(field: str, value: int | str, *, least: int, most: int) -> int:
    try:
        number = int(value, 10) if isinstance(value, str) else value
    except ValueError:
        raise PlanError(field, f"{_shown(value)} is not a whole number") from None
    if isinstance(number, bool) or not isinstance(number, int):
        raise PlanError(field, f"{_shown(value)} is not a whole number")
    if not least <= number <= most:
        raise PlanError(field, f"{_shown(number)} is outside {least} to {most}")
    return number


def _day(field: str, value: date | str) -> date:
    if isinstance(value, str):
        try:
            return date.fromisoformat(value)
        except ValueError:
            raise PlanError(
                field, f"{_shown(value)} is not a date; write it as 2027-03-01"
            ) from None
    if type(value) is not date:
        raise PlanError(field, f"{_shown(value)} is not a date without a time")
    return value


def _not_too_far(field: str, day: date, today: date) -> None:
    if day.year > today.year + MAX_YEARS_AHEAD:
        raise PlanError(field, f"{day} is more than {MAX_YEARS_AHEAD} years ahead")


def parse_country(value: str | None) -> str | None:
    """A country's two letters. Whether its holidays are known, a calendar says."""
    if value is None:
        return None
    code = value.strip().upper()
    if len(code) != 2 or not code.isascii() or not code.isalpha():
        raise PlanError("country", f"{_shown(value)} is not a two-letter country code, such as DE")
    return code


def _name(value: str) -> str:
    name = " ".join(value.split())
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise PlanError("systems", f"{_shown(value)} can't be the name of a system")
    return name


def _shown(value: object) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
