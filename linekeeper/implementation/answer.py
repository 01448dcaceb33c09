"""What a person says of a gate in the form of its run; taken once, whoever sends it again."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.implementation import news, queries, work
from linekeeper.implementation.advance import advance_in
from linekeeper.implementation.evaluate import SETTLED
from linekeeper.implementation.forecast import OWNERS
from linekeeper.implementation.progress import Progress, forecast_anew
from linekeeper.implementation.proofs import SystemTrouble, prove, troubles
from linekeeper.implementation.standing import Standing, blocked, unblocked
from linekeeper.outbox.queue import Message
from linekeeper.store import Store, is_id
from linekeeper.store.tables import Audit, Gate

Outcome = Literal["done", "blocked", "carry on"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
MAX_TEXT = 2_000
ANOTHER_RUN = "Another run asks for this gate now."


@dataclass(frozen=True, slots=True)
class GateAnswer:
    """One form. Nothing of it is trusted."""

    outcome: str
    evidence: str = ""
    """What shows that it is done, or why it is blocked."""
    note: str = ""
    whose_turn: str = "customer"
    by: str = ""
    at: datetime | None = None
    """When it was sent, from which it counts; None for now."""


@dataclass(frozen=True, slots=True)
class GateQuestion:
    """What the run of a gate has to ask."""

    standing: Standing
    row: Gate
    settled: bool
    """There is nothing to ask any more."""
    ended: str = ""
    """How it ended, in a word or two, where there is nothing to ask."""
    why: str = ""
    """The same as a sentence."""
    troubles: tuple[SystemTrouble, ...] = ()
    """What doesn't work now of what it is about."""


@dataclass(frozen=True, slots=True)
class AnswerOutcome:
    """What became of an answer: `progress` where something changed."""

    message: str
    settled: bool
    progress: Progress | None = None
    refused: bool = False
    """The answer says too little: `message` is what is missing."""


class NoSuchGate(Exception):
    """There is no gate of that id."""


async def ask(store: Store, gate_id: str, *, run_id: str | None) -> GateQuestion:
    """The gate as it is now; `run_id` is the run that asks, kept so that it can be found.

    A run whose gate was given to a later one has nothing to ask. Raises `NoSuchGate`.
    """
    async with store.write() as session:
        standing, row = await _load(session, gate_id)
        troubled = await _troubles(session, standing, row)
        mine = row.run_id in (None, run_id)
        over = row.status in SETTLED or standing.implementation.status == "abandoned"
        if run_id is not None and mine and not over:
            new, row.run_id = row.run_id is None, run_id
            await session.flush()
            if new:  # the graph links to the form from now on
                linked = news.wake(standing, f":form:{run_id}")
                await news.send(store, session, [linked], now=utcnow())
    if over:
        ended = row.status if row.status in SETTLED else standing.implementation.status
        return GateQuestion(standing, row, True, ended, _settled_words(row))
    if not mine:
        return GateQuestion(standing, row, True, "asked elsewhere", ANOTHER_RUN)
    return GateQuestion(standing, row, settled=False, troubles=troubled)


async def answer(
    store: Store, gate_id: str, given: GateAnswer, *, number: int, run_id: str | None, now: datetime
) -> AnswerOutcome:
    """Take answer `number` (from 0) of the run `run_id`, and move the implementation on with it.

    It counts from when it was sent: that no worker took it up meanwhile is nobody's time.
    One that was taken before, comes from a run given up, or comes when the gate is settled changes
    nothing; the last is kept in the audit. One that says too little is refused, with the reason in
    the next form.
    """
    async with store.write() as session:
        standing, row = await _load(session, gate_id)
        if row.status in SETTLED or standing.implementation.status == "abandoned":
            if row.run_id == run_id and row.answers == number and given.by != work.BY_LINEKEEPER:
                row.answers += 1
                late = _audit(standing, row, given, given.at or now, action="gate.answered_late")
                session.add(late)
            return AnswerOutcome(_settled_words(row), True)
        if row.run_id != run_id:
            return AnswerOutcome(ANOTHER_RUN, True)
        if row.answers != number:
            return AnswerOutcome("This answer was taken before.", row.status in SETTLED)
        row.answers += 1
        row.refusal = refuse(row, given) or ""
        if row.refusal:
            await session.flush()
            return AnswerOutcome(row.refusal, False, refused=True)
        at = _said_at(row, given, now)
        message = _take(standing, row, given, at)
        session.add(_audit(standing, row, given, at))
        await session.flush()
        await news.send(store, session, [message, *_ends(row, now)], now=now)
        evaluation, lacks = await advance_in(store, session, standing, now=now)
    progress = await forecast_anew(store, standing, evaluation, lacks, now=now)
    text = f"{row.title}: {given.outcome} by {given.by.strip()}"
    return AnswerOutcome(text, row.status in SETTLED, progress)


async def answer_by_customer(
    store: Store, gate_id: str, *, customer_id: str, done: bool, comment: str, now: datetime
) -> bool:
    """Take what the customer says of a gate on their own page; False where it can't be taken.

    A tick settles an open gate that is theirs and that nothing else proves; a comment becomes the
    gate's note. Its run, if one waits, ends. Nothing of another customer can be reached.
    """
    by = "the customer, on their page"
    async with store.write() as session:
        try:
            standing, row = await _load(session, gate_id)
        except NoSuchGate:
            return False
        theirs = standing.customer.id == customer_id and row.owner == "customer"
        over = row.status not in ("open", "blocked") or standing.implementation.status not in (
            "running",
            "held",
        )
        if not theirs or over or row.check_name is not None:
            return False
        evidence = f"Ticked on the customer's page. {comment}".strip()
        given = GateAnswer("done" if done else "comment", evidence=evidence, note=comment, by=by)
        if not done:
            row.note = comment or row.note
            row.changes += 1
            session.add(_audit(standing, row, given, now))
            await session.flush()
            return True
        message = _take(standing, row, given, now)
        session.add(_audit(standing, row, given, now))
        await session.flush()
        ends = [news.end_run(row, now), *_ends(row, now)]
        await news.send(store, session, [message, *ends], now=now)
        evaluation, lacks = await advance_in(store, session, standing, now=now)
    await forecast_anew(store, standing, evaluation, lacks, now=now)
    return True


_EVIDENCE = "Evidence, or the reason"


def refuse(row: Gate, given: GateAnswer) -> str | None:
    """Why an answer can't be taken; None if it can. Pure."""
    texts = (given.evidence, given.note, given.by)
    problems = (
        (
            any(len(text) > MAX_TEXT for text in texts),
            f"a text is over {MAX_TEXT} characters: put the rest where it belongs and link it",
        ),
        (not given.by.strip(), "Your name: say who you are"),
        (
            given.whose_turn not in OWNERS,
            f"Waiting on, if blocked: must be one of {', '.join(OWNERS)}",
        ),
        (given.outcome not in OUTCOMES, f"Outcome: must be one of {', '.join(OUTCOMES)}"),
        (
            given.outcome == "done" and not given.evidence.strip(),
            f"{_EVIDENCE}: say what shows that it is done",
        ),
        (
            given.outcome == "blocked" and not given.evidence.strip(),
            f"{_EVIDENCE}: say what keeps it from being done",
        ),
        (given.outcome == "carry on" and row.status != "blocked", "Outcome: it is not blocked"),
    )
    return "; ".join(reason for wrong, reason in problems if wrong) or None


def _said_at(row: Gate, given: GateAnswer, now: datetime) -> datetime:
    """When the answer was sent: never before what was known of the gate when it was asked."""
    moments = [block.get("until") or block["since"] for block in row.blocks]
    known = [row.opened_at or now, *map(datetime.fromisoformat, moments)]
    return max([min(given.at or now, now), *known])


def _take(standing: Standing, row: Gate, given: GateAnswer, now: datetime) -> Message:
    row.changes += 1
    row.note = given.note.strip() or row.note
    if given.outcome == "done":
        row.blocks = unblocked(row.blocks, now)
        row.status, row.done_at, row.done_by = "done", now, given.by.strip()
        row.evidence = given.evidence.strip()
        return news.gate_event(standing, row, "done", now, row.evidence)
    if given.outcome == "blocked":
        because = given.evidence.strip()
        row.blocks = blocked(row.blocks, because, given.whose_turn, now)
        row.status = "blocked"
        return news.gate_event(standing, row, "blocked", now, because)
    row.blocks = unblocked(row.blocks, now)
    row.status = "open"
    return news.gate_event(standing, row, "unblocked", now, row.note)


def _ends(row: Gate, now: datetime) -> list[Message | None]:
    """Have the run that does the gate's work look, where there is nothing to do any more."""
    return [work.end(row, now)] if row.status in SETTLED else []


def _audit(
    standing: Standing, row: Gate, given: GateAnswer, now: datetime, *, action: str = ""
) -> Audit:
    return Audit(
        at=now,
        by=given.by.strip()[:MAX_TEXT],
        action=action or f"gate.{given.outcome.replace(' ', '_')}",
        subject=news.run_name(standing, row),
        detail={
            "implementation": standing.implementation.id,
            "gate": row.gate,
            "evidence": given.evidence.strip()[:MAX_TEXT],
            "note": given.note.strip()[:MAX_TEXT],
        },
    )


async def _troubles(
    session: AsyncSession, standing: Standing, row: Gate
) -> tuple[SystemTrouble, ...]:
    """The systems in trouble that the gate is about: its own, or all where it is of none."""
    _, lacks = prove(standing, await queries.evidence(session, [standing]))
    planned = next(gate for gate in standing.plan.gates if gate.id == row.gate)
    own = [lacks[row.gate]] if row.gate in lacks else []
    about = lacks.values() if planned.system is None else own
    return troubles({str(number): lack for number, lack in enumerate(about)})


def _settled_words(row: Gate) -> str:
    if row.status == "skipped":
        return f"{row.title} was skipped: {row.skipped_because}"
    if row.status == "done":
        return f"{row.title} is done already, by {row.done_by}: nothing was changed"
    return f"{row.title} is not asked for any more: the implementation was abandoned"


async def _load(session: AsyncSession, gate_id: str) -> tuple[Standing, Gate]:
    # Only its address: the row itself is read once the implementation is locked.
    statement = select(col(Gate.implementation_id), col(Gate.gate)).where(col(Gate.id) == gate_id)
    row = (await session.execute(statement)).first() if is_id(gate_id) else None
    if row is None:
        raise NoSuchGate(f"there is no gate {gate_id[:40]!r}")
    standing = await queries.load(session, row[0], lock=True)
    assert standing is not None  # gates belong to an implementation
    return standing, standing.gates[row[1]]
