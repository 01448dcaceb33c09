"""First messages that a Slack channel could not take: they are decided anew, by what is so now.

An outage spends no message of the hour's cap on what was over before anybody could read of it, and
what can wait is not said in quiet hours because it was decided before them.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    String,
    and_,
    bindparam,
    cast,
    delete,
    exists,
    func,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.incidents.announce import first_key, incident_ordering_key
from linekeeper.notify.channels import resume
from linekeeper.notify.groups import GROUP_KIND, group_ordering_key
from linekeeper.notify.routing import DEFAULT
from linekeeper.outbox.queue import OUTBOX
from linekeeper.outbox.sender import OutboxRow
from linekeeper.store.engine import Store, chunked
from linekeeper.store.lists import update_many
from linekeeper.store.tables import Incident, Notice, NoticeMessage
from linekeeper.store.types import Id

_BEFORE = timedelta(hours=1)
"""So long before the trouble was noticed a message may have been decided that met it."""
_AT_ONCE = 5_000
_FIRST = (col(Notice.channel) == "slack", col(Notice.step) == "first", col(Notice.round) == 0)
_FREED = OUTBOX.c.dedupe_key + literal(":") + cast(OUTBOX.c.id, String)
"""The key is free for the message that is decided anew."""
MERGED = "part of a wider incident before anybody was notified"
"""Why nobody is ever notified of an incident that goes on in another one."""


async def before_a_try(
    store: Store, name: str, since: datetime, *, unsent: Collection[str], now: datetime
) -> None:
    """One message is to find out whether the channel takes any: what is over is decided anew."""
    async with store.write() as session:
        await decide_anew(session, name, since, only_over=True, unsent=unsent, now=now)


async def is_back(
    session: AsyncSession, name: str, *, is_only: bool, unsent: Collection[str], now: datetime
) -> None:
    """The Slack channel takes messages: what it did not take is due, and decided anew."""
    if since := await resume(session, name, now=now, is_only=is_only):
        await decide_anew(session, name, since, only_over=False, unsent=unsent, now=now)


async def forget_merged(store: Store, incident_ids: Collection[str]) -> None:
    """Nobody is to be notified of incidents that go on in another one before they were posted."""
    if not incident_ids:
        return
    async with store.write() as session:
        for batch in chunked(sorted(incident_ids), _AT_ONCE):
            await session.execute(
                update_many(Notice)
                .where(*_FIRST, col(Notice.incident_id).in_(batch))
                .values(step="never", group_key=None, slack_channel=None, why=MERGED)
            )


async def decide_anew(
    session: AsyncSession,
    name: str,
    since: datetime,
    *,
    only_over: bool,
    unsent: Collection[str],
    now: datetime,
) -> None:
    """Forget notifications that Slack never accepted; the policy decides of it again.

    `since` then the channel took nothing. What somebody else has claimed may be on its way, and
    what Slack did not answer may stand there: both stay decided. Of the rows `unsent`, which the
    caller has claimed, none is on its way. `only_over` leaves
    alone what is open, whose reminders and escalation count from when it was decided; but for what
    had no place within the cap, where there is one now.
    """
    subject = literal("incident:") + cast(col(Notice.incident_id), String)
    shared = literal("fold:") + col(Notice.group_key)
    may_stand = exists().where(
        or_(
            OUTBOX.c.ordering_key
            == literal(incident_ordering_key("")) + cast(col(Notice.incident_id), String),
            OUTBOX.c.ordering_key == literal(group_ordering_key("")) + col(Notice.group_key),
        ),
        OUTBOX.c.status == "pending",
        or_(
            and_(OUTBOX.c.claimed_by.is_not(None), OUTBOX.c.id.not_in(unsent)),
            OUTBOX.c.refusal == "unanswered",
        ),
    )
    unnotified = (
        select(
            col(Notice.id),
            col(Notice.incident_id),
            GROUP_KIND,
            col(Incident.resolved_at),
        )
        .join(Incident, col(Incident.id) == col(Notice.incident_id))
        .where(
            *_FIRST,
            col(Notice.at) > since - _BEFORE,
            func.coalesce(col(Notice.slack_channel), DEFAULT) == name,
            col(Incident.round) == 0,
            ~exists().where(col(NoticeMessage.subject) == subject),
            ~exists().where(col(NoticeMessage.subject) == shared),
            ~may_stand,
        )
    )
    rows = (await session.execute(unnotified)).all()
    if only_over:
        over = [row for row in rows if row.resolved_at and row.group_kind != "over"]
        crowded = [row for row in rows if not row.resolved_at and row.group_kind == "cap"]
        rows = [*over, *crowded] if over else []
    await _forget(session, [row.id for row in rows], now=now)


async def _forget(session: AsyncSession, notice_ids: Sequence[str], *, now: datetime) -> None:
    """The policy decides again of what it had decided by these notices."""
    keys: list[str] = []
    for batch in chunked(notice_ids, _AT_ONCE):
        which = delete(Notice).where(col(Notice.id).in_(batch))
        gone = await session.execute(which.returning(col(Notice.incident_id), col(Notice.round)))
        keys += [first_key(incident_id, opening) for incident_id, opening in gone]
    for batch in chunked(keys, _AT_ONCE):
        await session.execute(
            update(OUTBOX)
            .where(
                OUTBOX.c.dedupe_key.in_(batch),
                OUTBOX.c.status == "pending",
                OUTBOX.c.claimed_by.is_(None),
            )
            .values(
                dedupe_key=_FREED,
                status="superseded",
                settled_at=now,
                error="decided again, because Slack accepted no messages",
            )
        )


_DECIDED = select(col(Notice.id), col(Notice.severity))
_KEY, _STEP = bindparam("key", type_=String), bindparam("step", type_=String)


def _unsaid(subject: str) -> Any:
    """Whether there is no such message in Slack yet."""
    return ~exists().where(col(NoticeMessage.subject) == literal(subject) + _KEY)


_ALONE = _DECIDED.where(
    *_FIRST[:2],  # of each opening: none of them was said while it has no message
    col(Notice.incident_id) == bindparam("incident", type_=Id),
    col(Notice.group_key).is_(None),
    _unsaid("incident:"),
)
_TOGETHER = _DECIDED.where(*_FIRST, col(Notice.group_key) == _KEY, _unsaid("fold:"))
_REMINDING = _DECIDED.join(Incident, col(Incident.id) == col(Notice.incident_id)).where(
    col(Notice.incident_id) == bindparam("incident", type_=Id),
    col(Notice.channel) == "slack",
    col(Notice.step) == _STEP,
    col(Notice.round) == col(Incident.round),
)


async def decided_before(store: Store, rows: Sequence[OutboxRow]) -> dict[str, list[str]]:
    """The rows that would notify people of nothing critical, each with its notices."""
    notices: dict[str, list[str]] = {}
    async with store.read() as session:
        for row in rows:
            match row.payload:
                case {"do": "show", "incident_id": str(incident)}:
                    which, given = _ALONE, {"incident": incident, "key": incident}
                case {"do": "group", "group_key": str(key)}:
                    which, given = _TOGETHER, {"key": key}
                case {"do": "remind", "incident_id": str(incident), "step": str(step)}:
                    step = "first" if step == "reopened" else step
                    which, given = _REMINDING, {"incident": incident, "step": step}
                case _:
                    continue
            decisions = await session.execute(which, given)
            severities = {notice.id: notice.severity for notice in decisions}
            if severities and "critical" not in severities.values():
                notices[row.id] = list(severities)
    return notices


async def decide_after_quiet(
    session: AsyncSession, row: OutboxRow, notice_ids: Sequence[str], *, now: datetime
) -> None:
    """Forget that `row` was to be said, which is settled: quiet hours hold it now."""
    await _forget(session, notice_ids, now=now)
    await session.execute(update(OUTBOX).where(OUTBOX.c.id == row.id).values(dedupe_key=_FREED))
