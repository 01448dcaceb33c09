"""What leaves the house when an implementation moves: events, runs to start, words for Slack.

Each is a row of the outbox, written in the transaction that makes it true.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from slugify import slugify
from sqlalchemy.ext.asyncio import AsyncSession

from linekeeper.implementation.calendar import FIRST_HOUR, HOURS, WorkingCalendar
from linekeeper.implementation.notified import Sign, payload_of
from linekeeper.implementation.queries import run_key
from linekeeper.implementation.standing import Standing, turn_of
from linekeeper.incidents.announce import said_about
from linekeeper.outbox.queue import Message, enqueue
from linekeeper.people import person
from linekeeper.store import Store
from linekeeper.store.tables import Gate

MAX_TAG = 100


def implementation_key(slug: str) -> str:
    """The key of an implementation's artifact."""
    return f"implementation-{slug}"


def gate_event(standing: Standing, row: Gate, what: str, at: datetime, text: str) -> Message:
    """`linekeeper.implementation.<gate>` for one change; `row.changes` has been counted up."""
    implementation = standing.implementation
    resource = f"linekeeper.implementation.{implementation.id}"
    key = f"event:{resource}:{row.gate}:{row.changes}"
    return Message(
        "event",
        key,
        {
            "name": f"linekeeper.implementation.{row.gate}",
            "occurred": at.isoformat(),
            "resource": {
                "prefect.resource.id": resource,
                "prefect.resource.name": implementation.title,
                "linekeeper.gate": row.gate,
                "linekeeper.views": row.status,
            },
            "related": [
                {
                    "prefect.resource.id": f"linekeeper.customer.{standing.customer.id}",
                    "prefect.resource.role": "customer",
                    "prefect.resource.name": standing.customer.name,
                }
            ],
            "payload": {
                "what": what,
                "gate": row.gate,
                "title": row.title,
                "owner": row.owner,
                "text": text,
            },
        },
        ordering_key=f"event:{resource}",
    )


def gate_run(standing: Standing, row: Gate) -> Message:
    """Start the run in which a person says that the gate is done; once for each attempt."""
    key = run_key(row)
    return Message(
        "run",
        key,
        {
            "deployment": "gate",
            "idempotency_key": key,
            "name": run_name(standing, row),
            "parameters": {"gate": row.id},
            "tags": tags(standing, row),
        },
    )


def end_run(row: Gate, at: datetime) -> Message | None:
    """Let the run of a gate that was settled elsewhere go on to its end; None if it has none."""
    if row.run_id is None:
        return None
    answer = {
        "outcome": "done",
        "evidence": "Already settled",  # the form takes no answer without one
        "note": "",
        "whose_turn": "us",
        "by": "Linekeeper",
    }
    return Message(
        "run",
        f"{run_key(row)}:end:{row.changes}",
        {"resume": row.run_id, "answer": answer},
        # The run may be about to suspend; resuming it before that would be lost.
        not_before=at + timedelta(seconds=2),
    )


def wake(standing: Standing, because: str = "", *, at: datetime | None = None) -> Message | None:
    """Have the implementation's run look at it again, at `at` or now; once for each that happened.

    None where it has no run yet: that one looks when it begins.
    """
    implementation = standing.implementation
    if implementation.run_id is None:
        return None
    moved = sum(row.changes for row in standing.gates.values())
    connected = ",".join(system.connection_id or "" for system in standing.systems)
    state = f"{moved}:{connected}:{implementation.status}{because}"
    return Message(
        "run",
        f"implementation:{implementation.id}:wake:{implementation.run_id}:{state}",
        {"wake": implementation.run_id},
        kind="wake" if at is None else "look",
        subject=implementation.id,
        not_before=at,
    )


def run_name(standing: Standing, row: Gate) -> str:
    """`Acme · SAP ECC · Basic workflow configuration`."""
    return f"{standing.customer.name} · {row.title}"


def tags(standing: Standing, row: Gate) -> list[str]:
    """What the run is found by on the Runs page; on hold it waits for nobody."""
    whom = person(row.assignee)
    waiting = [] if standing.held else [f"waiting:{turn_of(row)}"]
    return [
        f"implementation:{standing.implementation.slug}"[:MAX_TAG],
        f"owner:{slugify(whom.name or whom.slack_id)}"[:MAX_TAG],
        *waiting,
    ]


def slip(standing: Standing, text: str, signs: Iterable[Sign], *, now: datetime) -> Message:
    """A message that it slips, in the customer's working hours; `signs` are what is new in it."""
    at = working_moment(standing.calendar, now)
    message = say(standing, f"slip:{now:%Y%m%d%H%M%S%f}", text, not_before=at)
    return replace(
        message,
        kind="slip",
        payload={**message.payload, **payload_of(signs), "zone": str(standing.calendar.zone)},
    )


def say(standing: Standing, what: str, text: str, *, not_before: datetime | None = None) -> Message:
    """A message in the implementation's one thread in Slack; each `what` is said once."""
    thread = f"implementation:{standing.implementation.id}"
    subject = f"{thread}:{what}"
    page = implementation_key(standing.implementation.slug)
    payload = {
        "do": "say",
        "subject": subject,
        "thread": thread,
        "text": text,
        "page": page,
        **said_about("implementation", customer_id=standing.customer.id),
    }
    return Message(
        "slack",
        f"slack:say:{subject}",
        payload,
        kind="say",
        subject=standing.implementation.id,
        not_before=not_before,
    )


async def send(
    store: Store, session: AsyncSession, messages: Sequence[Message | None], *, now: datetime
) -> None:
    """Write what there is to send in the caller's transaction."""
    await enqueue(store, session, [message for message in messages if message is not None], now=now)


def working_moment(calendar: WorkingCalendar, at: datetime) -> datetime:
    """`at`, or the next moment inside working hours. Pure."""
    local = at.astimezone(calendar.zone)
    day = local.date()
    inside = FIRST_HOUR <= local.hour < FIRST_HOUR + HOURS
    if calendar.is_working(day) and inside:
        return at
    if local.hour >= FIRST_HOUR + HOURS or not calendar.is_working(day):
        day = calendar.first(day + timedelta(days=1))
    start = datetime(day.year, day.month, day.day, FIRST_HOUR, tzinfo=calendar.zone)
    return start.astimezone(at.tzinfo or ZoneInfo("UTC"))
