"""Work that waits in a table: written with its cause, claimed in order, settled once.

There is one way to claim, for messages of the outbox and for webhook events alike. Rows have an
ordering key, a time from which they may be claimed (`next_attempt_at`) and the claim that holds
them (`claimed_by`). A claim puts that time off to its own end: a claimed row is simply one that
isn't due, and one whose claimant died is due again by itself.

A row is never claimed while an earlier one of its ordering key waits for a further try or is held
by another claim; such rows are put off to the same moment, so that an ordering key that waits
costs nobody else anything, however many rows it has.
"""

from asyncio import CancelledError
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache, partial
from itertools import chain
from typing import Any, Literal, get_args

from sqlalchemy import (
    ColumnElement,
    Integer,
    RowMapping,
    bindparam,
    exists,
    func,
    literal_column,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession

from linekeeper.clock import utcnow
from linekeeper.groups import to_end
from linekeeper.outbox.about import Kind
from linekeeper.outbox.release import release_all
from linekeeper.store import Store, new_id
from linekeeper.store.engine import chunked, insert_ignore
from linekeeper.store.tables import Outbox
from linekeeper.store.types import UtcDateTime, table_of

Outcome = Literal["sent", "suppressed", "superseded", "skipped"]
"""How a message ends; beside `dead`, which may be replayed."""
ENDED: tuple[Outcome, ...] = get_args(Outcome)
CLAIM_SECONDS = 120.0  # how long one may take for what one claimed
HELD_SECONDS = 0.2  # until the first look at rows behind another claim (`look_again`)
_KEYS_AT_ONCE, _KEY = 5_000, "ordering_key"  # as a column it has another name
OUTBOX = table_of(Outbox)
_COPIED = ("channel", "dedupe_key", "kind", "subject", "app", "destination")
DUE_SINCE: Any = func.coalesce(OUTBOX.c.due_at, OUTBOX.c.created_at, type_=OUTBOX.c.created_at.type)
"""Since when a message is due, or for when it is planned: its age counts from then."""
_NOW: Any = bindparam("now", type_=UtcDateTime)


@dataclass(frozen=True, slots=True)
class Message:
    """A row to write: `dedupe_key` makes it once, `ordering_key` keeps it in order."""

    channel: str
    dedupe_key: str
    payload: dict[str, Any] = field(default_factory=dict)
    ordering_key: str = ""
    """By default the dedupe key: in order with nothing."""
    kind: Kind = ""
    subject: str | None = None
    app: str | None = None
    destination: str | None = None
    not_before: datetime | None = None


async def enqueue(
    store: Store, session: AsyncSession, messages: Sequence[Message], *, now: datetime
) -> None:
    """Write `messages` in the caller's transaction; a dedupe key already there is left alone."""
    rows = [
        {
            "id": (identifier := new_id()),
            "seq": identifier,
            **{name: getattr(message, name) for name in _COPIED},
            "ordering_key": message.ordering_key or message.dedupe_key,
            "payload": _payload(store, message),
            "status": "pending",
            "attempts": 0,
            "created_at": now,
            "next_attempt_at": (due := message.not_before or now),
            "due_at": due if due > now else None,
        }
        for message in messages
    ]
    if rows:
        await insert_ignore(store, session, Outbox, rows)


def _payload(store: Store, message: Message) -> Mapping[str, Any]:
    """An entry of the Event Feed that a flow run causes carries it as a related resource."""
    if message.channel != "event" or store.run_id is None:
        return message.payload
    run = {
        "prefect.resource.id": f"prefect.flow-run.{store.run_id}",
        "prefect.resource.role": "flow-run",
    }
    return {**message.payload, "related": [*message.payload.get("related", ()), run]}


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """A table of work. Rows of an ordering key are done in the order of `order`, a UUIDv7."""

    table: Any
    order: Any
    which: ColumnElement[bool]
    """The part of the table that is claimed here."""
    columns: Sequence[Any]
    """What a claim returns beside `id`, `ordering_key` and `attempts`."""
    also: dict[str, Any] = field(default_factory=dict)
    """What else a claim sets."""
    aside: Callable[[RowMapping], str | None] = lambda _: None
    """The ordering key in which a row waits, where an earlier one of that key does."""
    only_first: bool = False
    """Whether of each ordering key only the first row that is not settled is claimed."""
    due: Any = field(init=False, compare=False)
    """The ids of what may be claimed at `:now`: built once, and asked for all the time."""
    any_due: Any = field(init=False, compare=False)
    """One of them, if there is any."""
    before_those_claimed: Any = field(init=False, compare=False)
    """What waits before `:top`, has one of the ordering `:keys` and isn't of the claim `:token`."""
    _taking: dict[bool, Any] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        due = select(self.table.c.id).where(self.waiting, self.table.c.next_attempt_at <= _NOW)
        if self.only_first:
            due = due.where(~_has_earlier(self))
        object.__setattr__(self, "due", due)
        object.__setattr__(self, "any_due", due.limit(1))
        columns, key = self.table.c, self.table.c.ordering_key.label(_KEY)
        before = select(
            key, self.order.label("place"), columns.claimed_by, columns.next_attempt_at
        ).where(
            self.waiting,
            columns.ordering_key.in_(bindparam("keys", expanding=True)),
            self.order < bindparam("top", type_=self.order.type),
            columns.claimed_by.is_distinct_from(bindparam("token", type_=columns.claimed_by.type)),
        )
        object.__setattr__(self, "before_those_claimed", before)

    def taking(self, is_sqlite: bool) -> Any:
        """The statement that claims the first `:most` of them; built once, and gone with it."""
        if is_sqlite in self._taking:
            return self._taking[is_sqlite]
        table, most = self.table, bindparam("most", type_=Integer)
        due = self.due.order_by(table.c.next_attempt_at, self.order).limit(most)
        if not is_sqlite:
            # Read once: a plan that reads it again for each row finds others than those
            # locked before, and the limit is none.
            once = due.with_for_update(skip_locked=True).cte("once")
            due = select(once.prefix_with("MATERIALIZED").c.id)
        claimed = {
            "claimed_by": bindparam("token", type_=table.c.claimed_by.type),
            "claim_owner": bindparam("owner", type_=table.c.claim_owner.type),
            "next_attempt_at": bindparam("until", type_=UtcDateTime),
            "attempts": table.c.attempts + 1,
        }
        given = (table.c.ordering_key.label(_KEY), table.c.attempts, *self.columns)
        taking = update(table).where(table.c.id.in_(due)).values(**claimed, **self.also)
        self._taking[is_sqlite] = taking.returning(table.c.id, self.order.label("place"), *given)
        return self._taking[is_sqlite]

    @property
    def waiting(self) -> ColumnElement[bool]:
        """Rows that are not settled yet."""
        pending: ColumnElement[bool] = self.table.c.status == literal_column("'pending'")
        return pending & self.which


@cache
def outbox_of(channel: str, *, only_first: bool = True) -> Work:
    names = "seq dedupe_key payload created_at due_at claimed_by retry_at counts_from refusal"
    columns = [OUTBOX.c[name] for name in (*names.split(), "destination")]
    which = OUTBOX.c.channel == literal_column(f"'{channel}'")
    return Work(OUTBOX, OUTBOX.c.seq, which, columns, only_first=only_first)


@dataclass(frozen=True, slots=True)
class Claim:
    """Rows that are ours until `until`, each ordering key's in order."""

    token: str
    until: datetime
    rows: Sequence[RowMapping]


def new_token(owner: str) -> str:
    """What a claim of `owner` is known by: a name for it alone, which is compared whole."""
    return f"{owner}/{new_id()}"


async def is_due(session: AsyncSession, work: Work, *, now: datetime) -> bool:
    """Whether there is anything to claim: a look that takes no lock."""
    return (await session.execute(work.any_due, {"now": now})).first() is not None


async def claim(
    store: Store,
    work: Work,
    owner: str,
    *,
    limit: int,
    now: datetime,
    seconds: float = CLAIM_SECONDS,
    token: str | None = None,
) -> Claim:
    """Claim up to `limit` rows that are due until `now + seconds`, in a transaction of its own.

    `now` is put right by the database's clock. `attempts` of a row counts this attempt already:
    with more than one it may have been delivered before. Who claims again before an earlier claim
    is settled gives the same `token` (`new_token`): rows behind its own are not blocked, as it
    knows their order itself; if cancelled, it gives back what it knows nothing of.
    """
    mine = token or new_token(owner)
    try:
        async with store.write() as session:
            now = now - utcnow() + await store.clock(session)
            until = now + timedelta(seconds=seconds)
            given = {"now": now, "most": limit, "token": mine, "owner": owner, "until": until}
            taken = (await session.execute(work.taking(store.is_sqlite), given)).mappings()
            rows = sorted(taken, key=lambda row: row["place"])
            if not work.only_first:
                blocked, keys = await _blocked(session, work, mine, rows, now=now, seconds=seconds)
                if blocked:
                    await release_claim(session, work, mine, blocked, ordering_keys=keys)
                    rows = [row for row in rows if row["id"] not in blocked]
    except CancelledError:
        if token is None:
            await to_end(partial(release_all, store, work, mine))
        raise
    return Claim(mine, until, rows)


def _has_earlier(work: Work) -> ColumnElement[bool]:
    """Whether an earlier row of the same ordering key is not settled yet."""
    earlier = work.table.alias()
    return exists().where(
        earlier.c.ordering_key == work.table.c.ordering_key,
        earlier.c.status == literal_column("'pending'"),
        earlier.c[work.order.name] < work.order,
    )


async def _blocked(
    session: AsyncSession,
    work: Work,
    token: str,
    rows: Sequence[RowMapping],
    *,
    now: datetime,
    seconds: float,
) -> tuple[dict[str, datetime], dict[str, str]]:
    """Which of `rows` are behind an earlier one that isn't ours: when to look again, and its order
    (theirs, or that of those which stepped aside)."""
    orders = {row["id"]: (row["ordering_key"], work.aside(row)) for row in rows}
    keys = sorted(filter(None, {*chain.from_iterable(orders.values())} - orders.keys()))
    if not keys:
        return {}, {}
    first: dict[str | None, RowMapping] = {}
    for chunk in chunked(keys, _KEYS_AT_ONCE):
        which = {"keys": chunk, "top": rows[-1]["place"], "token": token}
        earlier = await session.execute(work.before_those_claimed, which)
        for row in earlier.mappings():
            if row["place"] < first.setdefault(row["ordering_key"], row)["place"]:
                first[row["ordering_key"]] = row
    blocked: dict[str, datetime] = {}
    blocked_by: dict[str, str] = {}
    for row in rows:
        befores = (first.get(key) for key in orders[row["id"]])
        before = next((each for each in befores if each and each["place"] < row["place"]), None)
        if before is not None:
            held = before["claimed_by"] is not None and before["next_attempt_at"] > now
            due = max(before["next_attempt_at"], now)
            if held:  # its claim may end early, and ends by then at the latest
                began = before["next_attempt_at"] - timedelta(seconds=seconds)
                due = min(look_again(began, now=now), due)
            blocked[row["id"]], blocked_by[row["id"]] = due, before["ordering_key"]
    return blocked, blocked_by


def look_again(held_since: datetime, *, now: datetime) -> datetime:
    """When to look again at rows behind some that are claimed since then: after as long again."""
    return now + max(now - held_since, timedelta(seconds=HELD_SECONDS))


async def release_claim(
    session: AsyncSession,
    work: Work,
    token: str,
    until: Mapping[str, datetime],
    *,
    planned: Collection[str] = (),
    ordering_keys: Mapping[str, str] | None = None,
) -> None:
    """Let go of claimed rows that nobody tried: as if they had not been claimed, due at `until`.

    Those `planned` are as if written for then; with `ordering_keys` each goes on in that order.
    """
    for is_planned in (False, True):
        rows = [
            {"row_id": row, "until": at} | ({"key": ordering_keys[row]} if ordering_keys else {})
            for row, at in until.items()
            if (row in planned) is is_planned
        ]
        names = ["next_attempt_at"] + (["due_at"] if is_planned else [])
        names += ["retry_at"] if "retry_at" in work.table.c else []  # somebody attends to them
        columns = dict.fromkeys(names, "until") | ({_KEY: "key"} if ordering_keys else {})
        await change_claimed(session, work, token, columns, rows, is_untried=True)


async def change_claimed(
    session: AsyncSession,
    work: Work,
    token: str,
    columns: Mapping[str, str],
    rows: Sequence[Mapping[str, Any]],
    *,
    is_untried: bool = False,
) -> None:
    """Change rows that the claim still holds, each to its own values, and let go of them; what
    `is_untried` doesn't count as an attempt."""
    if rows:
        statement = _changing(work.table, tuple(columns.items()), is_untried)
        held = [{**row, "token": token} for row in rows]
        await session.execute(statement, held)


@cache
def _changing(table: Any, columns: Sequence[tuple[str, str]], is_untried: bool) -> Any:
    """The statement of `change_claimed`: built once for each set of columns."""
    values: dict[str, Any] = {
        name: bindparam(given, type_=table.c[name].type) for name, given in columns
    }
    if is_untried:
        values["attempts"] = table.c.attempts - 1
    return (
        update(table)
        .where(
            table.c.id == bindparam("row_id"),
            table.c.claimed_by == bindparam("token"),
            table.c.status == literal_column("'pending'"),
        )
        .values(claimed_by=None, claim_owner=None, **values)
    )
