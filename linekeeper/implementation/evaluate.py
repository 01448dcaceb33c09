"""Where an implementation stands: what is done, what may open, what is late, who is waited for.

Pure and repeatable: with its changes stored, the same evaluation asks for no more.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Literal

from linekeeper.implementation.calendar import WorkingCalendar
from linekeeper.implementation.forecast import OWNERS, GateProgress
from linekeeper.implementation.hold import Hold, Interval, days_of, within, without
from linekeeper.implementation.plan import Plan, PlannedGate
from linekeeper.implementation.template import Owner

Status = Literal["pending", "open", "blocked", "done", "skipped"]
Lateness = Literal["soon", "overdue"]
Commitment = Literal["none", "kept", "at risk", "late"]

_PRECEDENCE: tuple[Owner, ...] = ("us", "makini", "customer")

BY_CHECK = "check"
"""`done_by` of a gate that proved itself."""
SETTLED: frozenset[Status] = frozenset({"done", "skipped"})


@dataclass(frozen=True, slots=True)
class Block:
    """A time in which an open gate could not be worked on, and whose turn it was instead."""

    since: datetime
    because: str
    by: Owner
    until: datetime | None = None
    is_turn: bool = False
    """It could be worked on: it was merely the turn of another than its owner is now."""


@dataclass(frozen=True, slots=True)
class GateState:
    """What is stored about one gate. Times are aware UTC. The default is a gate never touched."""

    opened_at: datetime | None = None
    done_at: datetime | None = None
    skipped_because: str | None = None
    blocks: tuple[Block, ...] = ()
    owner: Owner | None = None
    """Whoever it was given to; None leaves the plan's."""
    earliest: date | None = None
    """It can't open before this day: an agreed firewall window, for instance."""
    due: date | None = None
    """An agreed day; without one, a gate is due when its worst case has passed."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What shows that an automatic gate is done."""

    at: datetime
    text: str
    by: str = BY_CHECK
    """`done_by` of the gate: whose work it was, where it was somebody's."""


@dataclass(frozen=True, slots=True)
class GateChange:
    """A change to store: the gate opens, or is done (by `proof`)."""

    gate: str
    to: Literal["open", "done"]
    at: datetime
    proof: Proof | None = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The state after `changes`."""

    changes: tuple[GateChange, ...]
    statuses: Mapping[str, Status]
    states: Mapping[str, GateState] = field(repr=False)
    late: Mapping[str, Lateness]
    """Open gates that have outlived what is likely (`soon`) or their due day (`overdue`)."""
    progress: float
    """0 to 1, gates weighted by how long they are expected to take; skipped ones count as done."""
    waited: Mapping[Owner, float]
    """Working days so far by whose turn it was: ours while anything of ours could be worked on,
    the customer's only while there was nothing but the customer to wait for."""
    on_hold: float
    """Working days so far that were nobody's: it was on hold."""
    now: float
    """Working days since the start."""
    so_far: Mapping[str, GateProgress] = field(repr=False)
    """What the forecast needs to know of each gate so far."""
    holds: tuple[Hold, ...]
    live: bool
    """Everything is settled: the go-live too, which needs all the others."""

    def having(self, *statuses: Status) -> tuple[str, ...]:
        """Ids of the gates in one of `statuses`, in the plan's order."""
        return tuple(gate for gate, status in self.statuses.items() if status in statuses)


def evaluate(
    plan: Plan,
    states: Mapping[str, GateState],
    proofs: Mapping[str, Proof],
    now: datetime,
    calendar: WorkingCalendar,
    *,
    held: bool = False,
    holds: Sequence[Hold] = (),
) -> Evaluation:
    """Settle what is proven, open what became possible, and say how it stands at `now` (aware).

    A proof that comes early waits until its gate may open. A gate that is done stays done,
    whatever is proven or needed later. Before the kickoff, and while `held`, nothing opens. `holds`
    are the times it was on hold so far: nobody's, and no gate is late for them.
    """
    after: dict[str, GateState] = {}
    statuses: dict[str, Status] = {}
    changes: list[GateChange] = []
    today = now.astimezone(calendar.zone).date()
    may_open = not held and today >= plan.scope.kickoff
    for gate in plan.gates:
        state = states.get(gate.id, GateState())
        ready = all(statuses[need] in SETTLED for need in gate.needs)
        waits = state.earliest is not None and state.earliest > today
        if may_open and ready and not waits and status_of(state) == "pending":
            state = replace(state, opened_at=now)
            changes.append(GateChange(gate.id, "open", now))
        proof = proofs.get(gate.id)
        proves = proof is not None and (gate.check is not None or gate.work is not None)
        if proof is not None and proves and status_of(state) in {"open", "blocked"}:
            at = min(max(proof.at, state.opened_at or now), now)
            state = replace(state, done_at=at)
            changes.append(GateChange(gate.id, "done", at, proof))
        after[gate.id] = state
        statuses[gate.id] = status_of(state)

    course = _Course(calendar.first(plan.scope.kickoff), now, calendar, holds)
    weight = {gate.id: gate.days.expected for gate in plan.gates}
    settled = sum(weight[gate_id] for gate_id, status in statuses.items() if status in SETTLED)
    whole = sum(weight.values())
    late = {
        gate.id: lateness
        for gate in plan.gates
        if (lateness := _lateness(gate, after[gate.id], course)) is not None
    }
    return Evaluation(
        changes=tuple(changes),
        statuses=statuses,
        states=after,
        late=late,
        progress=settled / whole if whole else float(all(s in SETTLED for s in statuses.values())),
        waited=_waited(plan.gates, after, course),
        on_hold=sum(days_of(hold, course.start, now, calendar) for hold in holds),
        now=calendar.elapsed(course.start, now),
        so_far={gate_id: _progress(state, course) for gate_id, state in after.items()},
        holds=tuple(holds),
        live=all(status in SETTLED for status in statuses.values()),
    )


@dataclass(frozen=True, slots=True)
class _Course:
    """The time from the start until now, in working days."""

    start: date
    now: datetime
    calendar: WorkingCalendar
    holds: Sequence[Hold]

    def length(self, times: Iterable[Interval]) -> float:
        elapsed = self.calendar.elapsed
        return sum(elapsed(self.start, end) - elapsed(self.start, since) for since, end in times)


def status_of(state: GateState) -> Status:
    if state.skipped_because is not None:
        return "skipped"
    if state.done_at is not None:
        return "done"
    if state.opened_at is None:
        return "pending"
    return "blocked" if state.blocks and state.blocks[-1].until is None else "open"


def judge_commitment(committed: date | None, p50: date, p80: date) -> Commitment:
    """`kept` while four of five trials keep the date, `late` once more than half miss it."""
    if committed is None:
        return "none"
    if p80 <= committed:
        return "kept"
    return "at risk" if p50 <= committed else "late"


def turns(
    gate: PlannedGate, state: GateState, now: datetime, holds: Sequence[Hold]
) -> list[tuple[datetime, datetime, Owner]]:
    """Whose turn it was, from when until when, while the gate was open, and nothing on hold."""
    if state.opened_at is None:
        return []
    end = state.done_at or now
    holder = state.owner or gate.owner
    at = state.opened_at
    turns_taken: list[tuple[datetime, datetime, Owner]] = []
    for block in state.blocks:
        turns_taken.append((at, block.since, holder))
        at = min(block.until or end, end)
        turns_taken.append((block.since, at, block.by))
    turns_taken.append((at, end, holder))
    return [
        (begin, finish, who)
        for since, until, who in turns_taken
        if since < until
        for begin, finish in without(within(holds, since, until), since, until)
    ]


def _lateness(gate: PlannedGate, state: GateState, course: _Course) -> Lateness | None:
    if status_of(state) not in {"open", "blocked"} or state.opened_at is None:
        return None
    holds, now = course.holds, course.now
    if holds and holds[-1].until is None:
        # As it was when the hold began; a day that was agreed moves once the hold ends.
        holds, now = holds[:-1], max(holds[-1].since, state.opened_at)
    today = now.astimezone(course.calendar.zone).date()
    paused = within(holds, state.opened_at, now)
    spent = course.length([(state.opened_at, now)]) - course.length(paused)
    overdue = spent > gate.days.worst if state.due is None else today > state.due
    if overdue:
        return "overdue"
    if state.due is not None:
        left = course.calendar.between(today, state.due)
        return "soon" if left < 1 else None
    return "soon" if spent > gate.days.likely else None


def _progress(state: GateState, course: _Course) -> GateProgress:
    def day(at: datetime | None) -> float | None:
        return None if at is None else course.calendar.elapsed(course.start, at)

    opened, finished = day(state.opened_at), day(state.done_at)
    if state.skipped_because is not None and finished is None:
        finished = 0.0 if opened is None else opened
    earliest = 0.0
    if state.earliest is not None:
        earliest = float(course.calendar.between(course.start, state.earliest))
    blocked = 0.0
    if state.opened_at is not None:
        whole = (state.opened_at, state.done_at or course.now)
        blocks = [Hold(block.since, block.until) for block in state.blocks if not block.is_turn]
        pauses = sorted(within([*blocks, *course.holds], *whole))
        blocked = course.length([whole]) - course.length(without(pauses, *whole))
    return GateProgress(opened, finished, earliest, blocked)


def _waited(
    gates: Iterable[PlannedGate], states: Mapping[str, GateState], course: _Course
) -> dict[Owner, float]:
    """Every moment is counted once: ours before Makini's before the customer's."""
    steps: list[tuple[datetime, Owner, int]] = []
    for gate in gates:
        for since, until, who in turns(gate, states[gate.id], course.now, course.holds):
            steps += [(since, who, 1), (until, who, -1)]
    steps.sort(key=lambda step: step[0])
    waited: dict[Owner, float] = dict.fromkeys(OWNERS, 0.0)
    active: dict[Owner, int] = dict.fromkeys(OWNERS, 0)
    last = datetime.min.replace(tzinfo=UTC)
    for at, who, change in steps:
        turn = next((party for party in _PRECEDENCE if active[party]), None)
        if turn is not None and at > last:
            waited[turn] += course.length([(last, at)])
        active[who] += change
        last = at
    return waited
