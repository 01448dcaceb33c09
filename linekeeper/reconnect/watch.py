"""What time brings to open cases: reminders, the end of waiting, a run that should look.

Driven by the consumer every few seconds and by the sweep. A look is one statement for all cases;
more follow only where something is due, and what was done is in columns, so that a repeat changes
nothing.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import update
from sqlmodel import col

from linekeeper.config import AppConfig, Configuration
from linekeeper.customers.reachable import with_contacts
from linekeeper.customers.successors import likely_succeeded
from linekeeper.incidents.announce import announce, incident_ordering_key
from linekeeper.incidents.lifecycle import IncidentChange, mark_reminded
from linekeeper.incidents.windows import resting_until
from linekeeper.outbox.queue import Message, enqueue
from linekeeper.reconnect.mails import mail
from linekeeper.reconnect.open_cases import OpenCase, WaitingMember, load_open_cases
from linekeeper.reconnect.recent import not_known_to_be_lost
from linekeeper.reconnect.remind import DEADLINE, DEADLINE_SAID, due
from linekeeper.reconnect.runs import needs_waking, wake
from linekeeper.runtime import Runtime
from linekeeper.store.modes import app_of
from linekeeper.store.tables import Reconnect
from linekeeper.text import duration


async def watch(rt: Runtime, *, now: datetime) -> int:
    """Look at every open case; returns how many there are."""
    cases = await load_open_cases(rt.store)
    late: list[OpenCase] = []
    steps: list[ReminderStep] = []
    for case in cases:
        if case.is_unsettled and case.outcome is None:
            continue
        if not case.is_open or case.outcome is not None:
            if needs_waking(case.run_id, case.woken_at, over_at=case.over_at, now=now):
                await _wake(rt, case, now)
        elif case.waiting and all(member.is_late(now) for member in case.waiting):
            late.append(case)
        else:
            steps += due_steps(case, now=now)
    if late or steps:
        await _act(rt, late, steps, now)
    return len(cases)


@dataclass(frozen=True, slots=True)
class ReminderStep:
    """A reminder, or the word that the deadline passed, of members who joined the case together."""

    case: OpenCase
    number: int
    """The number of the reminder, or `DEADLINE_SAID`."""
    joined: str
    """The day they joined, where that isn't when the case was opened; part of its messages' keys"""
    members: Sequence[WaitingMember]


def due_steps(case: OpenCase, *, now: datetime) -> list[ReminderStep]:
    """What is due in a case while some of its members still have time. Pure."""
    groups: dict[tuple[int, str], list[WaitingMember]] = {}
    for member in case.waiting:
        if member.is_late(now):
            number = DEADLINE_SAID
        elif member.customer_id is None or member.has_logged_in:
            continue
        else:
            number = due(
                member.asked_since,
                member.time_zone,
                deadline_at=member.asked_since + DEADLINE,
                snoozed_until=case.snoozed_until,
                now=now,
            )
        if number > member.reminded:
            since = member.asked_since
            joined = "" if since == case.opened_at else f":{since:%Y-%m-%d}"
            groups.setdefault((number, joined), []).append(member)
    return [
        ReminderStep(case, number, joined, members) for (number, joined), members in groups.items()
    ]


async def _act(
    rt: Runtime, late: Sequence[OpenCase], steps: Sequence[ReminderStep], now: datetime
) -> None:
    """End the cases that are `late` and take `steps`, of those whose login is known to be lost."""
    waiting = [case.waiting for case in late] + [step.members for step in steps]
    ids = {member.connection_id for members in waiting for member in members}
    unsure = await not_known_to_be_lost(rt, ids, now=now)
    for case in late:
        if not any(member.connection_id in unsure for member in case.waiting):
            await _end(rt, case, now)
    sure = [_without(step, unsure) for step in steps]
    if steps := [step for step in sure if step.members]:
        await _take(rt, steps, await rt.configuration(), now)


async def _wake(rt: Runtime, case: OpenCase, now: datetime) -> None:
    async with rt.store.write() as session:
        reconnect = await session.get_one(Reconnect, case.incident_id, with_for_update=True)
        await wake(rt, session, reconnect, over_at=case.over_at, now=now)


async def _end(rt: Runtime, case: OpenCase, now: datetime) -> None:
    """The deadline passed: people are notified, the run ends `Failed`; the incident stays open."""
    async with rt.store.write() as session:
        ended = await session.scalar(
            update(Reconnect)
            .where(
                col(Reconnect.incident_id) == case.incident_id,
                col(Reconnect.closed_at).is_(None),
                col(Reconnect.outcome).is_(None),
            )
            .values(outcome="not_in_time")
            .returning(col(Reconnect.incident_id))
        )
        if ended is None:
            return
        text = (
            f"Not reconnected in time: {_not_in_time(case.waiting)} No more mails are sent. Please "
            "call the customer."
        )
        change = IncidentChange(case.incident_id, "changed", text)
        await announce(rt.store, session, [change], now=now)
        reconnect = await session.get_one(Reconnect, case.incident_id)
        await wake(rt, session, reconnect, over_at=case.over_at, now=now)


async def _take(
    rt: Runtime, steps: Sequence[ReminderStep], configuration: Configuration, now: datetime
) -> None:
    """Write what is due of all cases in one transaction: who is mailed, and what operators read."""
    customers = {
        member.customer_id for step in steps for member in step.members if member.customer_id
    }
    async with rt.store.write() as session:
        reachable = await with_contacts(session, sorted(customers))
        ids = [member.connection_id for step in steps for member in step.members]
        spared = {*await resting_until(session, ids, now), *await likely_succeeded(session, ids)}
        for step in (_spared(step, spared) for step in steps):
            if not step.members:
                continue
            case = step.case
            app = configuration.apps.get(case.app)
            mailed = {
                member.connection_id
                for member in step.members
                if member.customer_id in reachable
                and not member.token_missing
                and may_mail(app, member, configuration)
            }
            await enqueue(rt.store, session, _messages(step, mailed, now), now=now)
            await mark_reminded(
                session,
                case.incident_id,
                [member.connection_id for member in step.members],
                step.number,
            )


def _spared(step: ReminderStep, spared: Collection[str]) -> ReminderStep:
    """The step without those who are not written to now: in a maintenance window, or since Makini
    shows a new connection in their place. Their reminder is due again later."""
    return step if step.number == DEADLINE_SAID else _without(step, spared)


def _without(step: ReminderStep, connections: Collection[str]) -> ReminderStep:
    members = [member for member in step.members if member.connection_id not in connections]
    return replace(step, members=members)


def _messages(step: ReminderStep, mailed: set[str], now: datetime) -> list[Message]:
    """The mails of a step, and its line in the incident's timeline; `mailed` are connections."""
    case = step.case
    if step.number == DEADLINE_SAID:
        text = (
            f"Not reconnected in time: {_not_in_time(step.members)} No more reminders are sent for "
            "it. Please call the customer."
        )
        return [_timeline(step, "late", text)]
    by_mail = [member for member in step.members if member.connection_id in mailed]
    by_hand = [member for member in step.members if member.connection_id not in mailed]
    said = [
        f"{_names(members)} ({how})"
        for members, how in (
            (by_mail, "reminded by mail"),
            (by_hand, "not mailed: please remind them"),
        )
        if members
    ]
    lasting = duration(now - min(member.asked_since for member in step.members))
    text = f"Still waiting after {lasting}: {', '.join(said)}."
    messages = [
        mail(case.incident_id, case.attempt, customer_id, "remind", f"{step.number}{step.joined}")
        for customer_id in dict.fromkeys(member.customer_id for member in by_mail)
        if customer_id is not None
    ]
    return [*messages, _timeline(step, "remind", text)]


def _timeline(step: ReminderStep, what: str, text: str) -> Message:
    ordering_key, first = (
        incident_ordering_key(step.case.incident_id),
        step.members[0].connection_id,
    )
    key = f"{ordering_key}:{what}:{step.case.attempt}:{step.number}{step.joined}:{first}"
    payload = {"do": "timeline", "incident_id": step.case.incident_id, "text": text}
    return Message("slack", key, payload, ordering_key)


def may_mail(app: AppConfig | None, member: WaitingMember, configuration: Configuration) -> bool:
    if app is None or configuration.mail is None:
        return False
    return app_of(app, member.chosen).writes_to_customers


def _not_in_time(members: Sequence[WaitingMember]) -> str:
    """What of 7 days came to nothing: nobody logged in, or it could not be verified."""
    silent = [member for member in members if not member.has_logged_in]
    kept = [member for member in members if member.has_logged_in]
    said = []
    if silent:
        said.append(f"{_names(silent)} did not log in within 7 days.")
    if kept:
        said.append(
            f"{_names(kept)} logged in within 7 days, and neither Makini nor the system has "
            "answered since to verify it."
        )
    return " ".join(said)


def _names(members: Sequence[WaitingMember]) -> str:
    names = [member.label for member in members]
    and_more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + and_more
