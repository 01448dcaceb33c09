"""The steps of a reconnect run. Each asks the database what is done, so that it can be repeated."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, cast

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.clock import utcnow, zone_of
from linekeeper.customers.reachable import with_contacts
from linekeeper.health.evidence import Observation, Outcome
from linekeeper.health.login_check import read_surely, readable_entities
from linekeeper.health.service import observe
from linekeeper.incidents.announce import announce
from linekeeper.incidents.conclude import conclude
from linekeeper.incidents.lifecycle import IncidentChange, annotate
from linekeeper.incidents.operate import snooze_until
from linekeeper.makini import ErrorKind, MakiniError
from linekeeper.outbox.queue import enqueue
from linekeeper.reconnect.ask import who_was_asked
from linekeeper.reconnect.case import KIND, Case, customers_of, load_case
from linekeeper.reconnect.counts import backfilled
from linekeeper.reconnect.mails import mail
from linekeeper.reconnect.runs import end_replaced
from linekeeper.runtime import Runtime
from linekeeper.spending import for_person
from linekeeper.store.engine import chunked
from linekeeper.store.tables import Audit, Connection, ConnectLink, Reconnect
from linekeeper.sweep.batch import probe_batch
from linekeeper.text import duration, health_name
from linekeeper.tokens.caller import Caller

Next = Literal["wait", "verify", "reconnected", "moved", "given_up", "not_in_time", "closed"]


class NoCase(Exception):
    """There is nothing to reconnect; the message says why."""


class Replaced(Exception):
    """Another run took the case; `run_id` is the one that works on it now."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"run {run_id} works on this case now")
        self.run_id = run_id


@dataclass(frozen=True, slots=True)
class FormAnswer:
    """What somebody put into the run's form."""

    by: str
    note: str = ""
    snooze: str = "no"
    """`no`, `1 hour`, `4 hours` or `Monday`."""
    give_up: bool = False
    at: datetime | None = None
    """When they sent it: a snooze counts from then; None for now."""


async def take_up(rt: Runtime, incident_id: str, run_id: str, *, now: datetime) -> Case:
    """Work on the case of an incident as the run `run_id`. Raises `NoCase`, `Replaced`.

    Another run than before counts the answers of its form from the first again, and the run before
    is woken to end; should it be resumed later, it doesn't take the case back.
    """
    async with rt.store.write() as session:
        case = await load_case(rt.store, incident_id, now=now, session=session)
        if case is None:
            raise NoCase(f"there is no incident {incident_id}")
        if case.reconnect is None:
            raise NoCase(f"{case.incident.title} is not about a lost login")
        reconnect, before = case.reconnect, case.reconnect.run_id
        if replaced_by(reconnect, run_id) is not None:
            raise Replaced(str(before))
        if reconnect.closed_at is not None:
            return case  # it stays the case of the run that closed it
        if before != run_id:
            reconnect.run_id, reconnect.answers = run_id, 0
            reconnect.replaced_runs = [run for run in reconnect.replaced_runs if run != run_id]
            if before is not None:
                reconnect.replaced_runs = [*reconnect.replaced_runs, before]
                await end_replaced(rt, session, before, now=now)
        changed = await annotate(session, case.incident, run_id=run_id)
        if changed:
            await announce(rt.store, session, [IncidentChange(incident_id, "changed", "")], now=now)
    return case


def replaced_by(reconnect: Reconnect, run_id: str) -> str | None:
    """The run that works on the case in place of `run_id`, if there is one. Pure."""
    return reconnect.run_id if run_id in reconnect.replaced_runs else None


def next_step(case: Case, run_id: str) -> Next:
    """What the run `run_id` should do now. Raises `Replaced`. Pure.

    A run that has closed the case, and was killed before it ended, ends as the case did.
    """
    reconnect = case.reconnect
    if reconnect is None:
        return "closed"
    if reconnect.closed_at is not None:
        return cast("Next", reconnect.outcome) if reconnect.run_id == run_id else "closed"
    other = replaced_by(reconnect, run_id)
    if other is not None:
        raise Replaced(other)
    if not case.is_open and not case.is_unsettled:
        return "moved" if case.moved else "verify"
    if reconnect.outcome == "given_up":
        return "given_up"
    if reconnect.outcome == "not_in_time":
        return "not_in_time"
    return "wait"


async def take_answer(
    rt: Runtime, incident_id: str, number: int, answer: FormAnswer, *, now: datetime
) -> str | None:
    """Act on the `number`th answer of the run's form, each counts once; why it isn't, if so."""
    decides = answer.snooze != "no" or answer.give_up
    zone = zone_of((await rt.configuration()).alerts.time_zone)
    async with rt.store.write() as session:
        case = await load_case(rt.store, incident_id, now=now, session=session)
        if case is None or case.reconnect is None or case.reconnect.answers >= number:
            return None
        reconnect = case.reconnect
        reconnect.answers = number
        if not (decides or answer.note.strip()):
            return None
        if decides and not answer.by.strip():
            return "say who you are"
        by, sent = answer.by.strip() or "somebody (reconnect form)", answer.at or now
        texts = []
        if answer.note.strip():
            texts.append(f"{by}: {answer.note.strip()}")
        if answer.snooze != "no":
            reconnect.snoozed_until = until = snooze_until(answer.snooze, sent, zone)
            texts.append(f"{by} snoozed reminders until {until:%a %H:%M %Z}.")
        if answer.give_up and reconnect.outcome is None:
            reconnect.outcome = "given_up"
            texts.append(f"{by} gave up waiting. The incident stays open; no more mails are sent.")
        detail = {"note": answer.note[:500], "snooze": answer.snooze, "give_up": answer.give_up}
        session.add(
            Audit(at=sent, by=by, action="reconnect.answered", subject=incident_id, detail=detail)
        )
        change = IncidentChange(incident_id, "changed", "\n".join(texts))
        await announce(rt.store, session, [change], now=now)
    return None


@for_person
async def verify_login(rt: Runtime, connection_id: str) -> str:
    """Verify that a connection works: its status, and a record of one of its entities.

    One entity that is refused says nothing of the login (`linekeeper.health.login_check`).

    Returns what was seen. Raises `MakiniError` where that can be tried again, `NotVerified` where
    the login is lost again.
    """
    for _ in range(2):
        connection, caller = await _probed(rt, connection_id)
        if connection.setup == "disconnected":
            return "disconnected" + (", replaced" if connection.replaced_by else "")
        if connection.health == KIND:
            raise NotVerified("the login is lost again")
        if caller.token is None:
            return f"{health_name(connection.health)}, by Makini's list"
        status = Observation(at=utcnow(), source="reconnect", outcome=Outcome.answered)
        try:
            readable = await readable_entities(rt, caller.app, connection_id)
            read = await read_surely(caller, readable, status)
        except MakiniError as error:
            if error.kind is not ErrorKind.unauthorized:
                raise
            continue  # the token ended meanwhile, or the connection did: a probe finds out
        if read is None:
            return f"{health_name(connection.health)}; no entity of it may be read"
        await _judge(rt, connection_id, read)
        if read.outcome is Outcome.login_lost:
            raise NotVerified("the reads are refused with the new login")
        return f"{health_name(connection.health)}; its records can be read"
    raise NotVerified("Makini refuses the token, and whether the login is lost is not known")


async def _probed(rt: Runtime, connection_id: str) -> tuple[Connection, Caller]:
    """The connection as it is after a probe, unless it is disconnected; and who calls it."""
    async with rt.store.read() as session:
        connection = await session.get_one(Connection, connection_id)
    app = await rt.app(connection.app)
    if connection.setup != "disconnected":
        await probe_batch(rt, app, [connection_id], started=utcnow(), last_try=True)
        async with rt.store.read() as session:
            connection = await session.get_one(Connection, connection_id)
    return connection, await Caller.of(rt, app, connection)


async def _judge(rt: Runtime, connection_id: str, seen: Observation) -> None:
    now, policy = utcnow(), (await rt.configuration()).policy
    async with rt.store.write() as session:
        await observe(rt.store, session, [(connection_id, seen)], policy=policy, now=now)
        await conclude(rt.store, session, policy=policy, now=now)


class NotVerified(Exception):
    """The new login doesn't work; the message says how that showed."""


async def close(rt: Runtime, incident_id: str, outcome: str, *, now: datetime) -> str:
    """End the case; returns it in a sentence. People are notified once."""
    async with rt.store.write() as session:
        case = await load_case(rt.store, incident_id, now=now, session=session)
        if case is None or case.reconnect is None:
            raise NoCase(f"there is no incident {incident_id}")
        reconnect = case.reconnect
        sentence = _sentence(case, outcome, now)
        closed = await session.scalar(
            update(Reconnect)
            .where(col(Reconnect.incident_id) == incident_id, col(Reconnect.closed_at).is_(None))
            .values(closed_at=now, outcome=outcome)
            .returning(col(Reconnect.incident_id))
        )
        if closed is None or outcome != "reconnected":
            return sentence  # a link that is shown stays: whoever calls the customer passes it on
        await annotate(session, case.incident, connect_url=None)
        change = IncidentChange(incident_id, "changed", sentence)
        await announce(rt.store, session, [change], now=now)
        await _thank(rt, case, reconnect, session, now)
    return sentence


async def _thank(
    rt: Runtime, case: Case, reconnect: Reconnect, session: Any, now: datetime
) -> None:
    """Only who was asked, or has logged in: nobody else knows that anything was wrong."""
    configuration = await rt.configuration()
    app = configuration.apps.get(case.incident.app)
    if app is None or not configuration.mail:
        return
    customers = customers_of(case.members, app)
    incident, attempt = case.incident.id, reconnect.attempt
    asked = await who_was_asked(session, case, reconnect, has_gone=True)
    by_connection = {member.connection_id: member.customer_id for member in case.members}
    aware = {by_connection[connection_id] for connection_id in asked}
    aware |= await _who_logged_in(session, list(by_connection), reconnect.opened_at)
    reachable = await with_contacts(session, customers)
    rows = [
        mail(incident, attempt, customer, "thank")
        for customer in customers
        if customer in reachable and customer in aware
    ]
    await enqueue(rt.store, session, rows, now=now)


async def _who_logged_in(
    session: AsyncSession, connections: Sequence[str], since: datetime
) -> set[str | None]:
    """The customers who have used a link for a lost login of `connections`."""
    customers: set[str | None] = set()
    for batch in chunked(connections, 5_000):
        customers |= set(
            await session.scalars(
                select(col(ConnectLink.customer_id)).where(
                    col(ConnectLink.connection_id).in_(batch),
                    col(ConnectLink.incident_id).is_not(None),
                    col(ConnectLink.used_at) >= since,
                )
            )
        )
    return customers


def _sentence(case: Case, outcome: str, now: datetime) -> str:
    reconnect = case.reconnect
    assert reconnect is not None  # callers checked
    over_at = case.incident.resolved_at or reconnect.closed_at or now
    lasted = duration(over_at - case.incident.since)
    if outcome != "reconnected":
        return {
            "not_in_time": f"not reconnected in time (waited {lasted})",
            "given_up": f"given up after {lasted}",
        }.get(outcome, "continued in another incident")
    unread = [
        member
        for member in case.members
        if not (member.setup == "disconnected" or member.disappeared)
        and member.connection_id in reconnect.windows
        and member.connection_id not in reconnect.counts
    ]
    caught = [backfilled(list(reconnect.counts.values()))]
    if unread:
        names = named([member.label for member in unread])
        missing = f"not backfilled, for there is no token to read with: {names}"
        caught = [*caught, missing] if reconnect.counts else [missing]
    gone = [member.label for member in case.members if member.disappeared]
    if gone:
        caught.append(f"not reconnected, for Makini lists it no longer: {named(gone)}")
    back = len(case.members) - len(gone)
    many = f"{back} connections, " if len(case.members) > 1 else ""
    return f"Reconnected after {lasted}: {many}{'; '.join(caught)}"


def named(labels: Sequence[str]) -> str:
    """A few names, and how many more there are. Pure."""
    return ", ".join(labels[:5]) + (f" and {len(labels) - 5} more" if len(labels) > 5 else "")
