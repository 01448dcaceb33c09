"""What an operator changes about an implementation that is underway; every change is audited."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import partial
from typing import Any, Literal, get_args

from linekeeper.credits.service import release
from linekeeper.implementation import news, queries, work
from linekeeper.implementation.advance import NoSuchImplementation, advance_in, look
from linekeeper.implementation.evaluate import SETTLED
from linekeeper.implementation.find import find_gate, find_implementation
from linekeeper.implementation.forecast import OWNERS
from linekeeper.implementation.golive import begin_alerts
from linekeeper.implementation.hold import begun, days_of, ended
from linekeeper.implementation.progress import Progress, forecast_anew
from linekeeper.implementation.scope import MAX_YEARS_AHEAD, FormErrors, PlanError
from linekeeper.implementation.standing import WHOSE, Standing, hand_over, unblocked
from linekeeper.implementation.template import GO_LIVE
from linekeeper.outbox.queue import Message
from linekeeper.preflight.ageing import conclude_ageing_in
from linekeeper.preflight.evidence import resolve_unused
from linekeeper.preflight.targets import TargetError, parse_target
from linekeeper.store import Store
from linekeeper.store.tables import Audit, Gate, Implementation

Action = Literal["hold", "resume", "skip", "move", "reassign", "target", "abandon"]
ACTIONS: tuple[Action, ...] = get_args(Action)
Day = Literal["committed", "due", "earliest"]
MAX_REASON = 500


@dataclass(frozen=True, slots=True)
class Update:
    """One change. Nothing of it is trusted; fields an action doesn't need are left alone."""

    implementation: str
    action: str
    by: str
    gate: str = ""
    """A gate's title or id; empty where the whole implementation is meant."""
    reason: str = ""
    which_date: str = "committed"
    day: date | None = None
    to: str = ""
    """A person, or `us`, `customer`, `makini`; for `target` a `host:port`."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """What the form calls `gate`, `date` and `to`, where it calls them otherwise."""


@dataclass(frozen=True, slots=True)
class EditedImplementation:
    """What was done, in words, and how it stands now."""

    message: str
    progress: Progress


async def change(store: Store, *wanted: Update, now: datetime) -> EditedImplementation:
    """Do all of it to the one implementation it is about, or nothing.

    Raises `PlanError` or `NoSuchImplementation`; then nothing was changed.
    """
    for update in wanted:
        _check(update)
    async with store.write() as session:
        identifier = await find_implementation(session, wanted[0].implementation)
        standing = await queries.load(session, identifier, lock=True)
        if standing is None:
            raise NoSuchImplementation(f"there is no implementation {identifier}")
        implementation = standing.implementation
        _may_change(implementation, wanted)
        said: list[str] = []
        rows: list[Message | None] = []
        faults = FormErrors()
        for update in wanted:
            outcome = faults.of(partial(_carry_out, _Edit(standing, update, now)))
            if outcome is not None:
                done, messages = outcome
                said.append(done)
                rows += messages
                session.add(_audit(standing, update, done, now))
        faults.end()
        message, by = ". ".join(said), wanted[0].by.strip()
        if implementation.status == "abandoned":
            await release(
                store,
                session,
                [system.id for system in standing.systems],
                app=implementation.app,
                implementation_id=implementation.id,
                by=by,
                now=now,
            )
            rows += await begin_alerts(session, standing, now)
        await session.flush()
        await work.end_links(session, standing, now=now)
        await resolve_unused(store, session, now=now)  # a target may have moved, or be given up
        await conclude_ageing_in(store, session, now=now)
        moment = f"{now:%Y%m%d%H%M%S%f}"
        rows.append(news.say(standing, f"change:{moment}", f"{message} ({by})."))
        if implementation.status != "live":
            rows.append(news.wake(standing, f":{moment}"))
        await news.send(store, session, rows, now=now)
        after = None
        if implementation.status != "live":
            # Dates and owners are part of the plan, which was made from them.
            renewed = await queries.load(session, implementation.id)
            assert renewed is not None  # it was loaded a moment ago
            after = renewed, *await advance_in(store, session, renewed, now=now)
    if after is None:
        return EditedImplementation(message, await look(store, implementation.id, now=now))
    return EditedImplementation(message, await forecast_anew(store, *after, now=now))


def _may_change(implementation: Implementation, wanted: Sequence[Update]) -> None:
    """After the go-live a system may still move, as it does in the years that follow."""
    moves = all(update.action == "target" for update in wanted)
    if implementation.status in queries.UNDERWAY or (implementation.status == "live" and moves):
        return
    raise PlanError(
        "implementation", f"{implementation.title} is {implementation.status}: nothing to change"
    )


def _check(wanted: Update) -> None:
    if wanted.action not in ACTIONS:
        raise PlanError("action", f"{wanted.action[:40]!r} is not one of {', '.join(ACTIONS)}")
    if not wanted.by.strip():
        raise PlanError("by", "say who you are: it is kept in the audit")
    if len(wanted.reason) > MAX_REASON:
        raise PlanError("reason", f"is over {MAX_REASON} characters")


_Done = tuple[str, list[Message | None]]
"""What was done, in words, and what is to be sent."""


@dataclass(frozen=True, slots=True)
class _Edit:
    """One change of one implementation's rows; raises `PlanError`."""

    standing: Standing
    wanted: Update
    now: datetime

    def hold(self) -> _Done:
        implementation = self.standing.implementation
        if implementation.status == "held":
            return f"{implementation.title} is on hold already", []
        implementation.status, implementation.held_because = "held", _reason(self.wanted)
        due = {row.gate: row.due for row in self.standing.gates.values() if row.due}
        implementation.holds = begun(implementation.holds, self.now, due)
        return (
            f"{implementation.title} is on hold: {implementation.held_because}. "
            "Open gates stay open",
            [],
        )

    def resume(self) -> _Done:
        implementation = self.standing.implementation
        if implementation.status == "running":
            return f"{implementation.title} was not on hold", []
        due = implementation.holds[-1].get("due", {}) if implementation.holds else {}
        implementation.status, implementation.held_because = "running", None
        implementation.holds = ended(implementation.holds, self.now)
        return f"{implementation.title} goes on{self._move_by_hold(due)}", []

    def _move_by_hold(self, due: Mapping[str, str]) -> str:
        """Move what was `due` when the hold that has ended began by its working days; in words."""
        standing, calendar = self.standing, self.standing.calendar
        if not standing.holds:
            return ""
        start = calendar.first(standing.plan.scope.kickoff)
        lasted = days_of(standing.holds[-1], start, self.now, calendar)
        days = int(lasted + 0.5)
        said = f" after {lasted:.1f} working days on hold"
        if not days:
            return said
        moved = []
        for gate, day in due.items():
            row = standing.gates.get(gate)
            agreed = None if row is None or row.status in SETTLED else row.due
            # Another day may have been agreed meanwhile: that one stays.
            if row is not None and agreed is not None and agreed.isoformat() == day:
                row.due = calendar.later(agreed, days)
                moved.append(f"{row.title} {row.due}")
        if moved:
            said += f". Due dates moved by {days} working days: {', '.join(moved)}"
        if promised := standing.implementation.committed:
            said += f". The promised {promised} was not moved: agree on another and enter it"
        return said

    def skip(self) -> _Done:
        faults = FormErrors()
        row = faults.of(self._skippable)
        reason = faults.of(lambda: _reason(self.wanted))
        faults.end()
        row.changes += 1
        row.blocks = unblocked(row.blocks, self.now)
        row.status, row.skipped_because = "skipped", reason
        row.skipped_at, row.done_by = self.now, self.wanted.by.strip()
        text = f"{row.title} is skipped: {row.skipped_because}"
        return text, [
            news.gate_event(self.standing, row, "skipped", self.now, row.skipped_because),
            news.end_run(row, self.now),
            work.end(row, self.now),
        ]

    def _skippable(self) -> Gate:
        """The step; the go-live only where it waits for nothing else."""
        wanted_gate = find_gate(self.standing, self.wanted.gate)
        _unsettled(wanted_gate)
        rows = [self.standing.gates[gate.id] for gate in self.standing.plan.gates]
        left = [row.title for row in rows if row.gate != GO_LIVE and row.status not in SETTLED]
        if left and wanted_gate.gate == GO_LIVE:
            raise PlanError("gate", f"these come first, done or skipped: {'; '.join(left)}")
        return wanted_gate

    def move(self) -> _Done:
        implementation, day = self.standing.implementation, self.wanted.day
        if self.wanted.which_date not in get_args(Day):
            raise PlanError("which_date", f"must be one of {', '.join(get_args(Day))}")
        if day is None:
            raise PlanError("date", "is empty")
        if day.year > self.now.year + MAX_YEARS_AHEAD:
            raise PlanError("date", f"{day} is more than {MAX_YEARS_AHEAD} years ahead")
        if day < implementation.kickoff:
            raise PlanError("date", f"{day} is before the kickoff on {implementation.kickoff}")
        if self.wanted.which_date == "committed":
            before, implementation.committed = implementation.committed, day
            return f"{implementation.title}: committed {day} instead of {before or 'nothing'}", []
        row = find_gate(self.standing, self.wanted.gate)
        _unsettled(row)
        if self.wanted.which_date == "due":
            row.due = day
        elif row.status != "pending":
            raise PlanError("gate", f"{row.title} is open already")
        else:
            row.earliest = day
        return f"{row.title}: {self.wanted.which_date} {day}", []

    def reassign(self) -> _Done:
        implementation, to = self.standing.implementation, " ".join(self.wanted.to.split())
        if not to or len(to) > 120 or not to.isprintable():
            raise PlanError("to", "say to whom: a person, or us, customer, makini")
        if not self.wanted.gate.strip():
            if to in OWNERS:
                raise PlanError("to", "an implementation belongs to a person of your team")
            for row in self.standing.gates.values():
                if row.assignee == implementation.owner and row.status not in SETTLED:
                    row.assignee = to
            implementation.owner = to
            return f"{implementation.title} belongs to {to} now", []
        row = find_gate(self.standing, self.wanted.gate)
        _unsettled(row)
        if to in OWNERS and row.status != "pending":
            hand_over(row, to, self.now, for_good=True)
        elif to in OWNERS:
            row.owner = to
        else:
            row.assignee = to
        row.changes += 1
        return f"{row.title} is for {WHOSE.get(to, to)} now", [
            news.gate_event(self.standing, row, "reassigned", self.now, to)
        ]

    def target(self) -> _Done:
        """Where a system is reached; `gate` names the system, and may be empty if there is one."""
        try:
            target = str(parse_target(self.wanted.to.strip()))
        except TargetError as error:
            raise PlanError("to", str(error)) from None
        named = self.wanted.gate.casefold().strip()
        matches = [
            system
            for system in self.standing.systems
            if not named or system.name.casefold() == named
        ]
        if len(matches) != 1:
            names = ", ".join(system.name for system in self.standing.systems)
            raise PlanError("gate", f"name the system the target is of: {names}")
        matches[0].target = target
        return f"{matches[0].name} is reached at {target}", []

    def abandon(self) -> _Done:
        implementation = self.standing.implementation
        implementation.status, implementation.held_because = "abandoned", _reason(self.wanted)
        implementation.abandoned_at = self.now
        implementation.holds = ended(implementation.holds, self.now)
        implementation.key = (
            f"{implementation.key}:{implementation.id}"  # the same systems may be started anew
        )
        implementation.digest = None
        open_rows = [
            row for row in self.standing.gates.values() if row.status in ("open", "blocked")
        ]
        ends = [news.end_run(row, self.now) for row in open_rows if row.check_name is None]
        ends += [work.end(row, self.now) for row in open_rows]
        return f"{implementation.title} was abandoned: {implementation.held_because}", ends


_ACTIONS: Mapping[str, Callable[[_Edit], _Done]] = {
    "hold": _Edit.hold,
    "resume": _Edit.resume,
    "skip": _Edit.skip,
    "move": _Edit.move,
    "reassign": _Edit.reassign,
    "target": _Edit.target,
    "abandon": _Edit.abandon,
}


def _carry_out(edit: _Edit) -> _Done:
    """Do it; a `PlanError` names its fields as the form does."""
    try:
        return _ACTIONS[edit.wanted.action](edit)
    except PlanError as error:
        raise error.named(edit.wanted.fields) from None


def _reason(wanted: Update) -> str:
    reason = " ".join(wanted.reason.split())
    if not reason:
        raise PlanError("reason", "say why: it is kept in the audit")
    return reason


def _unsettled(row: Gate) -> None:
    if row.status in SETTLED:
        raise PlanError("gate", f"{row.title} is {row.status} already")


def _audit(standing: Standing, wanted: Update, message: str, now: datetime) -> Audit:
    detail: dict[str, Any] = {
        "implementation": standing.implementation.id,
        "gate": wanted.gate or None,
        "reason": wanted.reason or None,
        "text": message,
    }
    return Audit(
        at=now,
        by=wanted.by.strip(),
        action=f"implementation.{wanted.action}",
        subject=standing.implementation.title,
        detail=detail,
    )
