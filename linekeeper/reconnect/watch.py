"""What time brings to open cases: reminders, the end of waiting, a run that should look.

Driven by the consumer every few seconds and by the sweep; a repeat changes nothing.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select, update
from sqlmodel import col

from linekeeper.config import AppConfig, Configuration
from linekeeper.incidents.announce import announce, incident_lane
from linekeeper.incidents.changes import IncidentChange
from linekeeper.notify.text import duration
from linekeeper.outbox.queue import Message, enqueue
from linekeeper.reconnect.ask import mail, with_contacts
from linekeeper.reconnect.case import Case, Member, load_case, open_cases
from linekeeper.reconnect.remind import DEADLINE, due
from linekeeper.reconnect.runs import wake
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Outbox, Reconnect


async def watch(rt: Runtime, *, now: datetime) -> int:
    """Look at every open case; returns how many there are."""
    configuration = await rt.configuration()
    incidents = await open_cases(rt.store)
    for incident_id in incidents:
        case = await load_case(rt.store, incident_id, now=now)
        if case is None or case.reconnect is None:
            continue
        reconnect = case.reconnect
        if not case.is_open or reconnect.outcome is not None:
            await _wake(rt, case, now)
        elif case.waiting and not case.to_ask:
            continue  # nobody is asked before the go-live
        elif case.to_ask and all(case.is_late(member, now) for member in case.to_ask):
            await _end(rt, case, now)
        elif case.to_ask:
            await _tell_late(rt, case, reconnect, now)
            await _remind(rt, case, reconnect, configuration, now)
    return len(incidents)


async def _wake(rt: Runtime, case: Case, now: datetime) -> None:
    if case.reconnect is not None and case.reconnect.run_id is not None:
        async with rt.store.write() as session:
            await wake(rt, session, case, now=now)


async def _end(rt: Runtime, case: Case, now: datetime) -> None:
    """The deadline passed: people are told, and the run ends `Failed`; the incident stays open."""
    async with rt.store.write() as session:
        ended = await session.scalar(
            update(Reconnect)
            .where(
                col(Reconnect.incident_id) == case.incident.id,
                col(Reconnect.closed_at).is_(None),
                col(Reconnect.outcome).is_(None),
            )
            .values(outcome="not_in_time")
            .returning(col(Reconnect.incident_id))
        )
        if ended is None:
            return
        names = _names(case.to_ask)
        text = (
            f"Not reconnected in time: {names} did not log in within 7 days and several reminders. "
            "No more mails are sent. Please call the customer."
        )
        change = IncidentChange(case.incident.id, "changed", text)
        await announce(rt.store, session, [change], now=now)
        await wake(rt, session, case, now=now)


async def _tell_late(rt: Runtime, case: Case, reconnect: Reconnect, now: datetime) -> None:
    """Say once of each member whose deadline passed while others still have time."""
    lane = incident_lane(case.incident.id)
    messages = [
        Message(
            "slack",
            f"{lane}:late:{reconnect.attempt}:{member.connection_id}",
            {
                "do": "diary",
                "incident_id": case.incident.id,
                "text": f"Not reconnected in time: {member.label} did not log in within 7 days "
                "and several reminders. It is not reminded any more. Please call the customer.",
            },
            lane,
        )
        for member in case.to_ask
        if case.is_late(member, now)
    ]
    if messages:
        await _write_new(rt, messages, now)


async def _remind(
    rt: Runtime, case: Case, reconnect: Reconnect, configuration: Configuration, now: datetime
) -> None:
    """Remind every customer whose reminder is due: of those who joined together at once."""
    groups: dict[tuple[int, str], list[Member]] = {}
    for member in case.to_ask:
        if member.customer_id is None:
            continue
        since = case.asked_since(member)
        number = due(
            since,
            member.time_zone,
            deadline_at=since + DEADLINE,
            snoozed_until=reconnect.snoozed_until,
            now=now,
        ).reminder
        joined = "" if since == reconnect.opened_at else f":{since:%Y-%m-%d}"
        if number:
            groups.setdefault((number, joined), []).append(member)
    mails = _may_mail(configuration.apps.get(case.incident.app), configuration)
    whom = "reminded by mail" if mails else "not mailed: please remind them"
    lane = incident_lane(case.incident.id)
    messages: list[Message] = []
    for (number, joined), members in groups.items():
        if mails:
            messages += [
                mail(case.incident.id, reconnect.attempt, customer_id, f"remind:{number}{joined}")
                for customer_id in dict.fromkeys(one.customer_id for one in members)
                if customer_id is not None
            ]
        lasting = duration(now - min(case.asked_since(member) for member in members))
        messages.append(
            Message(
                "slack",
                f"{lane}:remind:{reconnect.attempt}:{number}{joined}",
                {
                    "do": "diary",
                    "incident_id": case.incident.id,
                    "text": f"Still waiting after {lasting}: {_names(members)} ({whom}).",
                },
                lane,
            )
        )
    if messages:
        await _write_new(rt, messages, now)


async def _write_new(rt: Runtime, messages: Sequence[Message], now: datetime) -> None:
    """Write what is not there yet of `messages`; mails only where somebody reads them."""
    customers = [str(one.payload["customer_id"]) for one in messages if one.channel == "email"]
    async with rt.store.read() as session:
        there = set(
            await session.scalars(
                select(col(Outbox.dedupe_key)).where(
                    col(Outbox.dedupe_key).in_([one.dedupe_key for one in messages])
                )
            )
        )
        reachable = await with_contacts(session, customers)
    new = [
        one
        for one in messages
        if one.dedupe_key not in there
        and (one.channel != "email" or one.payload["customer_id"] in reachable)
    ]
    if new:
        async with rt.store.write() as session:
            await enqueue(rt.store, session, new, now=now)


def _may_mail(app: AppConfig | None, configuration: Configuration) -> bool:
    return (
        app is not None and app.manages and app.notify_customers and configuration.mail is not None
    )


def _names(members: Sequence[Member]) -> str:
    names = [one.label for one in members]
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
