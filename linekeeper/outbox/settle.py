"""How claimed messages end, or wait for another try: bulk changes in the settling transaction."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Literal, NamedTuple

from sqlalchemy import literal_column, update
from sqlalchemy.ext.asyncio import AsyncSession

from linekeeper.outbox.queue import OUTBOX, Outcome, Work, change_claimed
from linekeeper.store.statements import chunked

_MAX_ERROR = 500
_KEYS_AT_ONCE = 5_000


class End(NamedTuple):
    """How a message ends, and why."""

    id: str
    became: Outcome | Literal["dead"]
    note: str | None = None


class Retry(NamedTuple):
    """A message to try again."""

    id: str
    until: datetime
    why: str
    refusal: str | None = None


async def end(
    session: AsyncSession, work: Work, token: str, ends: Sequence[End], *, now: datetime
) -> None:
    """End messages that the claim still holds."""
    rows = [{"row_id": each.id, "became": each.became, "why": _cut(each.note)} for each in ends]
    columns = {"status": "became", "error": "why"}
    await change_claimed(session, work, token, columns, rows, settled_at=now)


async def schedule_retry(
    session: AsyncSession, work: Work, token: str, retries: Sequence[Retry]
) -> None:
    """Try messages that the claim still holds again, each at its time."""
    rows = [
        {"row_id": each.id, "until": each.until, "why": _cut(each.why), "what": each.refusal}
        for each in retries
    ]
    columns = {"next_attempt_at": "until", "error": "why", "refusal": "what"}
    await change_claimed(session, work, token, columns, rows)


async def supersede(session: AsyncSession, keys: Collection[str], *, now: datetime) -> None:
    """End messages, by dedupe key, that nobody has claimed: another one has said what they say."""
    for chunk in chunked(list(keys), _KEYS_AT_ONCE):
        await session.execute(
            update(OUTBOX)
            .where(
                OUTBOX.c.dedupe_key.in_(chunk),
                OUTBOX.c.status == literal_column("'pending'"),
                OUTBOX.c.claimed_by.is_(None),
            )
            .values(status="superseded", settled_at=now, error=None)
        )


def _cut(text: str | None) -> str | None:
    return text[:_MAX_ERROR] if text else text
