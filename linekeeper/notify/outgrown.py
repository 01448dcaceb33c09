"""What is said of an incident that grew beyond what it was announced as.

Its one message is edited, which notifies nobody. Where it has become critical its thread says so,
shown in the channel; where its channel takes only some of those it concerns by now, the channel
that takes all of them is notified too, and of the end.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.config import Configuration
from linekeeper.incidents import kinds as words
from linekeeper.incidents.announce import incident_ordering_key
from linekeeper.notify.merged import FLEET, merged_into
from linekeeper.notify.policy import is_hushed
from linekeeper.notify.routing import DEFAULT, channels_of, fitting_channels
from linekeeper.notify.situations import Moment, Situation
from linekeeper.outbox.queue import Message
from linekeeper.store.engine import chunked
from linekeeper.store.tables import Customer, Incident, Notice, NoticeMessage, Outbox
from linekeeper.store.types import UtcDateTime

_AT_ONCE = 5_000
_LATEST_END = timedelta(days=1)
"""So long after it an end is announced; shorter than delivered messages are kept."""
_CUSTOMER = (
    select(col(Customer.name))
    .where(col(Customer.id) == col(Incident.customer_id))
    .scalar_subquery()
    .label("customer")
)
_ANNOUNCED = (
    select(
        col(Incident.id),
        col(Incident.topic),
        col(Incident.kind),
        col(Incident.scope),
        col(Incident.app),
        col(Incident.provider),
        _CUSTOMER,
        col(Incident.round),
        func.coalesce(col(Notice.slack_channel), DEFAULT).label("slack_channel"),
        col(Notice.severity),
    )
    .join(Notice, col(Notice.incident_id) == col(Incident.id))
    .where(
        col(Incident.id).in_(bindparam("ids", expanding=True)),
        col(Notice.channel) == "slack",
        col(Notice.step) == "first",
        col(Notice.round) == col(Incident.round),
    )
)
_ENDED = select(
    col(Incident.id),
    col(Incident.scope),
    col(Incident.app),
    col(Incident.provider),
    _CUSTOMER,
    col(Incident.kind),
    col(Incident.round),
).where(
    col(Incident.scope) != "connection",
    col(Incident.resolved_at) > bindparam("since", type_=UtcDateTime),
)


async def outgrown(
    session: AsyncSession, configuration: Configuration, state: Moment, *, now: datetime
) -> list[Message]:
    """The messages about it that were not written yet."""
    grown = {
        situation.id: situation
        for situation in state.situations
        if situation.severity == "critical"
        and situation.resolved_at is None
        and not is_hushed(situation, configuration.alerts, now)
    }
    announced: list[Any] = []
    for ids in chunked(sorted(grown), _AT_ONCE):
        announced += await session.execute(_ANNOUNCED, {"ids": ids})
    messages = [*_worse(announced)]
    if configuration.slack_channels:
        messages += await _in_wider_channels(session, configuration, announced, grown)
        messages += await _ended(session, now)
    return await _unwritten(session, messages)


def _worse(announced: Iterable[Any]) -> Iterable[Message]:
    """What was announced as less than critical, in its own thread."""
    for row in announced:
        if row.severity != "critical":
            ordering_key = incident_ordering_key(row.id)
            payload = {
                "do": "remind",
                "incident_id": row.id,
                "step": "worse",
                "step_kind": "worse",
                "number": 0,
                "why": f"severity critical, announced as {row.severity}",
            }
            yield Message("slack", f"{ordering_key}:{row.round}:worse", payload, ordering_key)


async def _in_wider_channels(
    session: AsyncSession,
    configuration: Configuration,
    announced: Sequence[Any],
    grown: dict[str, Situation],
) -> list[Message]:
    """What concerns more connections than the channel takes that it was announced in."""
    wide = [row for row in announced if row.scope != "connection" and row.slack_channel != DEFAULT]
    channels = channels_of(configuration)
    severities = {row.id: grown[row.id].severity for row in wide}
    fitting = await fitting_channels(session, channels, wide, severities)
    return [
        _say(
            row,
            "began",
            f"{_cause(row)}: this incident began with fewer connections, and its message is in "
            f"the channel {channels[row.slack_channel].channel}, with all that is affected and "
            "the thread. It now concerns more than that channel takes.",
            slack_channel=fitting[row.id],
        )
        for row in wide
        if fitting[row.id] != row.slack_channel and row.slack_channel in channels
    ]


async def _ended(session: AsyncSession, now: datetime) -> list[Message]:
    """The end of what was said there, in its thread."""
    rows = {
        _subject(row): row for row in await session.execute(_ENDED, {"since": now - _LATEST_END})
    }
    begun: list[str] = []
    for subjects in chunked(sorted(rows), _AT_ONCE):
        begun += await session.scalars(
            select(col(NoticeMessage.subject)).where(col(NoticeMessage.subject).in_(subjects))
        )
    over = [rows[subject] for subject in dict.fromkeys(begun)]
    wider = await merged_into(session, [row.id for row in over])
    return [
        _say(
            row,
            "ended",
            f"{_cause(row)}: it goes on in a wider incident, {wider[row.id].name}"
            if row.id in wider
            else f"{_cause(row)}: resolved",
        )
        for row in over
    ]


def _cause(row: Any) -> str:
    """What has the trouble, and which; a title would count connections, which changes."""
    where = words.root_cause(row.scope, row.app, row.provider, row.customer)
    return f"{where} — {words.headline(row.kind)}"


def _subject(row: Any) -> str:
    return f"wider:{row.id}:{row.round}"


def _say(row: Any, what: str, text: str, **where: str) -> Message:
    subject = _subject(row)
    payload = {"do": "say", "thread": subject, "text": text, "page": FLEET, **where}
    return Message("slack", f"slack:{subject}:{what}", payload, f"slack:{subject}")


async def _unwritten(session: AsyncSession, messages: Sequence[Message]) -> list[Message]:
    known: set[str] = set()
    for keys in chunked([message.dedupe_key for message in messages], _AT_ONCE):
        known.update(
            await session.scalars(
                select(col(Outbox.dedupe_key)).where(col(Outbox.dedupe_key).in_(keys))
            )
        )
    return [message for message in messages if message.dedupe_key not in known]
