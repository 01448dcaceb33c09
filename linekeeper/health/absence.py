"""What follows from connections that Makini's list lacks, and when nothing does.

Absence is not evidence (DESIGN "True before green"): a list that lacks most of what is known, or
fewer connections than its own total, or has no end, looks truncated, and nothing is concluded from
it until a person accepts it. A connection missing from two complete lists, whose own calls were
refused between them (the sweep asks each whose token it has), has disappeared at Makini. Two lists
of the same minutes may have the same flaw: they count as two if they are `APART`, or where Makini
refused to renew the token since the first. That it had refused before says nothing: a login was
lost, or the answer with a pair. One of which Makini says that it doesn't know it, while it mints
tokens for others, is no sign of a truncated list. While the list lacks a connection that answers
for itself, it is not whole, and for a day says nothing of the others that it lacks. A day is one of
lists: where none was read for hours, or a clock was set, it begins anew. Linekeeper did not order
that one disappears, so `disappeared_at` makes it an incident (`incidents.conclude`).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, insert, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.config import AppConfig
from linekeeper.health.evidence import load
from linekeeper.health.judge import without_future
from linekeeper.store import Store, new_id
from linekeeper.store.engine import chunked, insert_or_update
from linekeeper.store.lists import update_many
from linekeeper.store.tables import AppState, Connection, Credential, Transition

MISSING_SHARE = 0.5
"""A list that lacks more than this share of the known connections looks truncated."""
UNASKABLE = timedelta(days=1)
"""A connection without a token that nobody asked for so long can't be asked. One that no list had
for so long, and whose answers can't be read, is gone as well."""
PAUSE = timedelta(hours=6)
"""Lists that are further apart don't say what there was between them."""
APART = timedelta(minutes=4)
"""How far apart two lists of sweeps are: a run taken twice reads two in the same minutes."""
_EVIDENCE = {False: "missing from two complete lists", True: "missing, and accepted as gone"}
_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class Absence:
    """What a list lacks."""

    known: int
    """Connections known and not disconnected, without those that Makini denies."""
    missing: int
    """Those of them that the list lacks."""
    listed: int
    """Different connections in the list."""
    total: int | None = None
    """How many the list says there are; None if it doesn't say."""
    accepted_shortfall: int = 0
    """The difference between total and list that a person accepted."""
    broken: str = ""
    """Why the list is not the whole of what it lists, by itself; empty where it may be."""

    @property
    def shortfall(self) -> int:
        """How many connections of the list's own total never came."""
        return max(0, (self.total or 0) - self.listed)

    @property
    def is_short(self) -> bool:
        """Whether the list says that there are more connections than it gave."""
        return self.shortfall > self.accepted_shortfall

    @property
    def looks_truncated(self) -> bool:
        """Whether nothing may be concluded from what is missing."""
        return bool(self.broken) or self.is_short or self.missing > self.known * MISSING_SHARE

    @property
    def figures(self) -> str:
        """What is missing, in numbers."""
        parts = [self.broken] if self.broken else []
        if self.is_short:
            parts.append(f"{self.listed} of the {self.total} connections it counts were listed")
        if self.missing:
            parts.append(f"{self.missing} of {self.known} known connections are missing")
        *most, last = parts or [""]
        return f"{', '.join(most)} and {last}" if most else last

    @property
    def sentence(self) -> str:
        """What people read."""
        return f"The connection list looks truncated: {self.figures}. Nothing was changed."


@dataclass(frozen=True, slots=True)
class Missing:
    """What a list lacks, and the rows it is about."""

    absence: Absence
    rows: Sequence[Any]
    """`id`, `name`, `makini_key`, `setup`, `missing_since`, `unlisted_since`, `disappeared_at`,
    `last_answered_at`, `judged`, `renewal_refused_at`, `pair_at` of those missing."""
    back: Sequence[str]
    """Ids of those that were missing before and are listed again."""
    before: AppState | None
    """What the list before left."""

    def watched_since(self, now: datetime) -> datetime:
        """Since when lists were read without a pause, up to this one."""
        before = self.before
        if before is None or before.last_list_at is None or before.listed_since is None:
            return now
        is_gap = abs(now - before.last_list_at) > PAUSE  # nobody looked, or the clock was set
        return now if is_gap else before.listed_since


async def find_missing(
    session: AsyncSession,
    app: str,
    listed: Collection[str],
    *,
    unnamed: int,
    total: int | None,
    broken: str = "",
) -> Missing:
    """Compare the known connections of `app` with the keys `listed`, beside `unnamed` entries that
    have none: each of these may be any that is missing."""
    before = await session.get(AppState, app)
    rows = (
        await session.execute(
            select(
                col(Connection.id),
                col(Connection.makini_key),
                col(Connection.setup),
                col(Connection.missing_since),
                col(Connection.unlisted_since),
            )
            .where(
                col(Connection.app) == app,
                or_(
                    col(Connection.setup) != "disconnected",
                    col(Connection.disappeared_at).is_not(None),
                ),
            )
            .order_by(col(Connection.id))
        )
    ).all()
    missing = await _all_about(session, [row.id for row in rows if row.makini_key not in listed])
    known = [row for row in rows if row.setup != "disconnected"]
    denied = await _denied(session, app, missing)
    lacks = sum(row.setup != "disconnected" and row.id not in denied for row in missing)
    if unnamed and lacks and not broken:
        broken = "an entry has no key" if unnamed == 1 else f"{unnamed} entries have no key"
    absence = Absence(
        known=sum(row.id not in denied for row in known),
        missing=lacks,
        listed=len(listed) + unnamed,
        total=total,
        accepted_shortfall=before.accepted_shortfall if before is not None else 0,
        broken=broken,
    )
    was_missing = [row for row in known if row.missing_since or row.unlisted_since]
    back = [row.id for row in was_missing if row.makini_key in listed]
    return Missing(absence, missing, back, before)


async def _all_about(session: AsyncSession, ids: Sequence[str]) -> list[Any]:
    """The rows of those that a list lacks, as in `Missing`: few, of the many that are known."""
    rows_found: list[Any] = []
    for chunk in chunked(ids, _AT_ONCE):
        rows = await session.execute(
            select(
                col(Connection.id),
                col(Connection.name),
                col(Connection.makini_key),
                col(Connection.setup),
                col(Connection.missing_since),
                col(Connection.unlisted_since),
                col(Connection.disappeared_at),
                col(Connection.last_answered_at),
                col(Connection.judged),
                col(Credential.refused_at).label("renewal_refused_at"),
                col(Credential.updated_at).label("pair_at"),
            )
            .join(Credential, col(Credential.connection_id) == col(Connection.id), isouter=True)
            .where(col(Connection.id).in_(chunk))
            .order_by(col(Connection.id))
        )
        rows_found += rows.all()
    return rows_found


async def _denied(session: AsyncSession, app: str, missing: Sequence[Any]) -> set[str]:
    """Those of `missing` of which Makini itself said since that it doesn't know them.

    Some accounts mint nothing, whatever is asked: it counts only where a token was minted since.
    """
    denied = {
        row.id: row.unlisted_since
        for row in missing
        if row.unlisted_since is not None
        and (denied_at := load(row.judged).denied_at) is not None
        and denied_at >= row.unlisted_since
    }
    if not denied:
        return set()
    minted_at: datetime | None = await session.scalar(
        select(func.max(col(Credential.updated_at)))
        .join(Connection, col(Connection.id) == col(Credential.connection_id))
        .where(col(Connection.app) == app, col(Credential.minted))
    )
    return {
        identifier
        for identifier, since in denied.items()
        if minted_at is not None and minted_at >= since
    }


async def conclude_missing(
    store: Store,
    session: AsyncSession,
    app: AppConfig,
    missing: Missing,
    *,
    now: datetime,
    accept: bool,
) -> None:
    """Disconnect what is missing for the second time and gave no sign of life since the first, or
    at once where a person accepts it.

    Where the list looks truncated and nobody accepted that, no more is kept than who is not in it.
    """
    absence, watched_since = missing.absence, missing.watched_since(now)
    state: dict[str, Any] = {
        "app": app.name,
        "budget": {},
        "circuit": {},
        "last_list_at": now,
        "listed_since": watched_since,
        "listed_from": app.api_url,
    }
    if accept:
        state["accepted_shortfall"] = absence.shortfall
    new = [row.id for row in missing.rows if row.unlisted_since is None]
    await _set(session, new, unlisted_since=now)
    await _set(session, missing.back, unlisted_since=None)
    if not absence.looks_truncated or accept:
        await _conclude(session, missing, watched_since, now=now, accept=accept)
    await insert_or_update(
        store,
        session,
        AppState,
        [state],
        key=["app"],
        update=[name for name in state if name not in ("app", "budget", "circuit")],
    )


async def _conclude(
    session: AsyncSession, missing: Missing, watched_since: datetime, *, now: datetime, accept: bool
) -> None:
    present = [row for row in missing.rows if row.setup != "disconnected"]
    is_contradicted = any(
        row.missing_since is not None and _was_heard_of(row, row.missing_since) for row in present
    )
    gone = [
        row
        for row in present
        if accept or _stays_away(row, watched_since, now, is_contradicted=is_contradicted)
    ]
    # A link that nobody finished may go unnoticed; a connection that was in use may not.
    used = [row.id for row in gone if row.setup != "pending" and not accept]
    unused = [row.id for row in gone if row.setup == "pending" or accept]
    await _set(session, used, setup="disconnected", missing_since=None, disappeared_at=now)
    await _set(session, unused, setup="disconnected", missing_since=None)
    if accept:
        before = [row.id for row in missing.rows if row.disappeared_at is not None]
        await _set(session, before, disappeared_at=None)
    ended = {row.id for row in gone}
    waiting = [row.id for row in present if row.id not in ended and not _is_too_soon(row, now)]
    await _set(session, waiting, missing_since=now)
    await _set(session, missing.back, missing_since=None)
    if not gone:
        return
    await session.execute(
        insert(Transition),
        [
            {
                "id": new_id(),
                "connection_id": row.id,
                "at": now,
                "axis": "setup",
                "before": row.setup,
                "after": "disconnected",
                "source": "list",
                "evidence": {"message": _EVIDENCE[accept]},
            }
            for row in gone
        ],
    )


def _is_too_soon(row: Any, now: datetime) -> bool:
    """Whether this list says no more than the one before, of the same minutes."""
    missing_since: datetime | None = row.missing_since
    if missing_since is None:
        return False
    refused_at: datetime | None = row.renewal_refused_at
    if refused_at is not None and refused_at >= missing_since:
        return False
    return missing_since <= now < missing_since + APART and not _was_heard_of(row, missing_since)


def _was_heard_of(row: Any, missing_since: datetime) -> bool:
    """Whether it answered since then, or Makini gave a new token for it."""
    if row.last_answered_at is not None and row.last_answered_at > missing_since:
        return True
    return row.pair_at is not None and row.pair_at > missing_since


def _stays_away(row: Any, watched_since: datetime, now: datetime, *, is_contradicted: bool) -> bool:
    """Whether it was missing before, and since then was asked in vain and gave no sign of life.

    One that can be asked is not gone unasked: a sweep may end between its list and its probes. Nor
    is one gone whose answer can't be read: its system may be off line, or Makini answers HTML or
    that its call limit is reached. Nor is one while the list lacks another that does answer, so
    that it is not whole: a refused call may be a lost login then. One that is in no list all day
    long is, where lists were read all that day.
    """
    missing_since: datetime | None = row.missing_since
    if missing_since is None or _is_too_soon(row, now) or _was_heard_of(row, missing_since):
        return False
    judged = without_future(load(row.judged), now)
    is_all_day = now - watched_since > UNASKABLE
    asked_lately = judged.asked_at is not None and (
        now - judged.asked_at <= UNASKABLE or not is_all_day
    )
    can_be_asked = row.pair_at is not None or asked_lately
    was_refused = judged.replied_at is not None and judged.replied_at > missing_since
    if (was_refused or not can_be_asked) and not is_contradicted:
        return True
    since: datetime | None = row.unlisted_since
    return is_all_day and since is not None and now - since > UNASKABLE


async def _set(session: AsyncSession, ids: Sequence[str], **values: object) -> None:
    for chunk in chunked(ids, _AT_ONCE):
        await session.execute(
            update_many(Connection).where(col(Connection.id).in_(chunk)).values(**values)
        )
