"""Whose login is set up, and how far that is. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from linekeeper.implementation.facts import SeenPreflight
from linekeeper.implementation.hold import Hold, within
from linekeeper.preflight.evidence import MAX_AGE
from linekeeper.reconnect.remind import next_working_moment
from linekeeper.refusal import Refusal
from linekeeper.store.tables import AuthenticationSetup, ConnectLink, ImplementationSystem

Step = Literal["requirements", "preflight", "link", "ask", "login", "verification", "connected"]
Decision = Literal["wait", "confirmed", "send again", "not needed", "give up"]
"""What a person says in the form of the run."""


class BadSetup(Refusal):
    """No login can be set up for what was given; the message says what to enter."""


@dataclass(frozen=True, slots=True)
class SetupSubject:
    """A connection, or a system of an implementation that has none yet."""

    app: str
    label: str
    """`Customer · System`."""
    customer_id: str | None
    customer: str
    system: str
    connection_id: str | None = None
    system_id: str | None = None
    on_premises: bool = False
    target: str | None = None
    """Where Makini is to reach it, for preflight."""
    time_zone: str = "UTC"
    holds: tuple[Hold, ...] = ()
    """The times its implementation was on hold."""

    @property
    def on_hold(self) -> bool:
        """Whether nobody is asked for anything now."""
        return bool(self.holds) and self.holds[-1].until is None


@dataclass(frozen=True, slots=True)
class SetupStanding:
    """How far a set-up is."""

    row: AuthenticationSetup
    subject: SetupSubject
    link: ConnectLink | None
    """The last one made."""
    connection_id: str | None
    """What the customer logged in to since the start; None: nobody has logged in yet."""
    kickoff_by: str | None
    """Who confirmed the technical requirements by the implementation's kickoff; None: nobody."""
    lacks_preflight: str | None
    """What preflight still has to show; None where nothing, or where it isn't asked for."""

    @property
    def step(self) -> Step:
        """What comes next. Whoever has logged in needs no more of what leads there."""
        if self.row.verified_at is not None:
            return "connected"
        if self.connection_id is not None:
            return "verification"
        if self.row.confirmed_at is None and self.kickoff_by is None:
            return "requirements"
        if self.lacks_preflight is not None:
            return "preflight"
        if self.link is None or self.row.send_again:
            return "link"
        return "ask" if self.row.asked_at is None else "login"

    def reminders_from(self, now: datetime) -> datetime | None:
        """Return when reminders begin to count: when the customer was asked, plus the time on hold.

        By mail it is asked in its working hours. None where nobody is to be reminded now.
        """
        asked = self.row.asked_at
        if self.step != "login" or asked is None or self.subject.on_hold:
            return None
        if self.row.is_mailed:
            asked = next_working_moment(asked, self.subject.time_zone)
        held = within(self.subject.holds, asked, now)
        return asked + sum((until - since for since, until in held), timedelta())

    def link_has_ended(self, now: datetime) -> bool:
        """Whether the link can't be used any more though nobody has logged in."""
        return self.step == "login" and self.link is not None and self.link.expires_at <= now


def choose_system(
    systems: Sequence[ImplementationSystem], wanted: str, title: str
) -> ImplementationSystem:
    """The system of an implementation that is meant. Raises `BadSetup`."""
    names = ", ".join(system.name for system in systems)
    if wanted.strip():
        folded = wanted.strip().casefold()
        matching = [system for system in systems if system.name.casefold() == folded]
        if len(matching) != 1:
            raise BadSetup("system", f"{title} has no one system {wanted.strip()!r}; enter {names}")
        return matching[0]
    matching = [system for system in systems if system.connection_id is None]
    if len(matching) == 1:
        return matching[0]
    if not matching:
        raise BadSetup("system", f"every system of {title} is connected; enter one of {names}")
    open_names = ", ".join(system.name for system in matching)
    raise BadSetup("system", f"{title} has several without a login; enter one of {open_names}")


def lack_of_preflight(
    subject: SetupSubject, seen: Mapping[tuple[str, str], SeenPreflight], *, now: datetime
) -> str | None:
    """What preflight has to show before the customer is asked; None: nothing any more."""
    if not subject.on_premises:
        return None
    if subject.target is None:
        return f"{subject.label} has no host and port yet: run preflight for it with its target"
    outside = seen.get((subject.target, "outside"))
    if outside is not None and not outside.passed:
        return f"{subject.target} from outside: {outside.finding}"
    inner = [
        verdict
        for vantage in ("inside", "allowlisted")
        if (verdict := seen.get((subject.target, vantage))) is not None
    ]
    last = max(inner, key=lambda report: report.at, default=None)
    if last is None or last.at < now - MAX_AGE:
        return f"{subject.target} was not checked from inside, nor from an allowed address"
    return None if last.passed else f"{subject.target}: {last.finding}"


def is_worth_a_look(standing: SetupStanding, *, now: datetime) -> bool:
    """Whether the run that waits has something to do."""
    row = standing.row
    if row.waits_for is None:
        return False
    if row.outcome is not None or standing.step != row.waits_for:
        return True
    return row.look_at is not None and row.look_at <= now
