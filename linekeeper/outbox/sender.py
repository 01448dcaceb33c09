"""What a sender is: it sends one channel's messages and says what came of each; that is settled."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple, Self

from sqlalchemy import ColumnElement, RowMapping, bindparam, literal_column, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from linekeeper.outbox.queue import OUTBOX, Outcome, Work, change_claimed
from linekeeper.store.engine import chunked
from linekeeper.store.types import UtcDateTime

Refusal = Literal["refused", "gone", "unanswered"]
"""The destination refuses this message; it says that its address is no more; or it did not answer,
and may have taken it."""
LATE = timedelta(hours=1)
NOBODY_THERE = timedelta(hours=6)
"""A message that is tried so much later than planned was attended to by nobody."""
_BEFORE = {"diary": "timeline", "fold": "group"}
"""What rows that wait may ask for in words of the version before, and what that is called now."""


def in_present_words(payload: dict[str, Any]) -> dict[str, Any]:
    """`payload` as this version writes it."""
    if payload.get("do") not in _BEFORE:
        return payload
    renamed = {"group_key" if name == "fold" else name: payload[name] for name in payload}
    return {**renamed, "do": _BEFORE[payload["do"]]}


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """A claimed message."""

    id: str
    dedupe_key: str
    ordering_key: str
    payload: dict[str, Any]
    attempts: int
    """This one included: with more than one it may have been delivered before."""
    created_at: datetime
    due_at: datetime | None
    """When a row is due that was written for later, or put off since."""
    claimed_by: str
    retry_at: datetime | None = None
    """When this try of a row was planned that was tried before."""
    counts_from: datetime | None = None
    """Since when its age counts, where nobody was there to try it."""
    refusal: str | None = None
    """What an earlier try met."""
    destination: str | None = None

    @classmethod
    def of(cls, row: RowMapping) -> Self:
        """The message of a claimed row."""
        fields = {name: row[name] for name in cls.__slots__}
        return cls(**fields | {"payload": in_present_words(row["payload"])})

    @property
    def due_since(self) -> datetime:
        return self.due_at or self.created_at

    def is_late(self, now: datetime) -> bool:
        """Whether it is sent so long after it was due that it would read as if it were new."""
        return now - self.due_since > LATE

    def dated(self, now: datetime) -> Mapping[str, Any]:
        """What it asks for; a text that is said late begins with when it was due."""
        if not self.is_late(now):
            return self.payload
        when = f"{self.due_since:%d %b %H:%M} UTC, sent late: "
        return {
            name: f"{when}{value}" if name in ("text", "mrkdwn") else value
            for name, value in self.payload.items()
        }

    def ages_since(self, in_trouble_since: datetime) -> datetime:
        """From when its age counts, by which it is given up.

        Its destination takes nothing since `in_trouble_since`. Between the time for which this try
        was planned and that, nobody was there to make it: so long it did not age.
        """
        since = self.counts_from or self.due_since
        missed = in_trouble_since - max(self.retry_at or since, since)
        return since + missed if missed > NOBODY_THERE else since


@dataclass(frozen=True, slots=True)
class Ended:
    """The message needs no further attempt."""

    became: Outcome = "sent"
    note: str | None = None
    covers: Collection[str] = ()
    """Dedupe keys of messages that nobody has claimed and that need not be sent any more."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The message was not taken."""

    why: str
    wait: float | None = None
    """Seconds until the next attempt; None: the usual back-off."""
    is_final: bool = False
    """Another attempt would be in vain."""
    is_kept: bool = False
    """It is never given up, however long it takes."""
    pauses: bool = False
    """Its destination is in trouble: another message would fare no better."""
    pause: float | None = None
    """How many seconds the pause lasts; None: as long as the sender says."""
    refusal: Refusal | None = None
    error: Exception | None = None
    """Raised once the round is settled."""


Result = Ended | Failed


class NoLongerOurs(Exception):
    """Another process sends it: the claim ran out, or its holder was taken for dead meanwhile."""


@dataclass(slots=True)
class Settlement:
    """What came of messages, as it is being written."""

    ended: list[tuple[OutboxRow, Ended]] = field(default_factory=list)
    retried: list[tuple[OutboxRow, Failed, datetime]] = field(default_factory=list)
    """The rows that are tried again, with the time of the next attempt."""
    dead: list[tuple[OutboxRow, str]] = field(default_factory=list)
    expired: dict[str, str] = field(default_factory=dict)
    """Destinations of which a message was given up for its age, and why it was not taken."""
    recovered: set[str] = field(default_factory=set)
    """Destinations that were paused and take messages again."""


@dataclass(frozen=True, slots=True)
class Partition:
    """A part of a channel that waits for no other part."""

    which: ColumnElement[bool] | None = None
    address: str = ""
    """Where it is sent; a pause ends when that changes."""


@dataclass(frozen=True, slots=True)
class Pause:
    """A destination takes nothing: one message at a time finds out when it does."""

    address: str
    failures: int
    until: datetime
    seconds: float
    """How long it lasts."""
    since: datetime
    """When the first of the messages was not taken."""

    @classmethod
    def after(
        cls, before: Self | None, address: str, seconds: float | None, longest: float, now: datetime
    ) -> Self:
        """One that begins `now`, for `seconds`, or with a back-off of up to `longest`."""
        failures = before.failures + 1 if before is not None else 1
        seconds = min(2.0 ** min(failures, 10), longest) if seconds is None else seconds
        since = before.since if before is not None else now
        return cls(address, failures, now + timedelta(seconds=seconds), seconds, since)

    def lasts(self, now: datetime) -> bool:
        """Whether it lasts at `now`; not where the clock was ahead when it began."""
        return timedelta() < self.until - now <= timedelta(seconds=self.seconds)


class Parts:
    """The work of each partition, whose statements are built once for as long as it is the same."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[ColumnElement[bool], Work]] = {}
        self._look: tuple[tuple[Work, ...], Any] = ((), None)
        """What asks for the parts that were asked for last."""

    def of(self, work: Work, name: str, partition: Partition) -> Work:
        """The part of `work` that is `partition`, which is called `name`."""
        if (which := partition.which) is None:
            return work
        if name not in self._known or self._known[name][0] is not which:
            self._known[name] = (which, replace(work, which=work.which & which))
        return self._known[name][1]

    async def due(
        self,
        session: AsyncSession,
        work: Work,
        partitions: Mapping[str, Partition],
        *,
        now: datetime,
    ) -> dict[str, Work]:
        """The parts of `work` that have something to claim, by one look."""
        parts = {name: self.of(work, name, each) for name, each in partitions.items()}
        if self._look[0] != (works := tuple(parts.values())):
            self._look = (works, _looking(works))
        waiting = (await session.execute(self._look[1], {"now": now})).one()
        return {
            name: part for (name, part), waits in zip(parts.items(), waiting, strict=True) if waits
        }


def _looking(parts: tuple[Work, ...]) -> Any:
    """What asks whether each of `parts` has anything to claim."""
    return select(*(part.due.exists().label(f"due_{n}") for n, part in enumerate(parts)))


class Sender:
    """How one channel is sent. Subclasses send; everything else has a default."""

    channel: str
    batch = 20
    at_once = 4
    deadline_seconds = 45.0
    cut_off_seconds = 0.0
    """What was being sent when its sender was stopped may still arrive: so long it waits."""
    gives_up_after = timedelta(days=3)
    """How long a message is tried; while nobody is there to try it, it does not age."""
    longest_pause: float | None = None
    """The longest pause of the back-off, in seconds; None: a pause lasts as the message waits."""
    only_first = True
    """Whether one message of each ordering key is claimed at a time; else they are sent in a
    row."""
    settles_each = True
    """What was sent is settled at once; else when all of the batch was sent."""

    async def partitions(self) -> Mapping[str, Partition]:
        """The parts of the channel, by destination."""
        return {"": Partition()}

    @asynccontextmanager
    async def prepare(self, rows: Sequence[OutboxRow]) -> AsyncIterator[Mapping[str, Result]]:
        """What a batch needs at hand while it is sent; gives what is known of rows already."""
        yield {}

    def destination(self, row: OutboxRow) -> str:
        """What is paused if it takes nothing."""
        return ""

    def not_before(self, row: OutboxRow, now: datetime) -> datetime | None:
        """Until when `row` is not to be sent, if it isn't."""
        return None

    def forgets_age(self, row: OutboxRow) -> bool:
        """Whether `row`, put off, is as if it had been written for then."""
        return True

    async def send(self, row: OutboxRow) -> Result:
        """Send it. What is raised is trouble of our own: the row is due again at once."""
        raise NotImplementedError

    def timed_out(self, row: OutboxRow) -> Failed:
        """What it means that `send` took longer than the deadline."""
        return Failed(f"no answer within {self.deadline_seconds:.0f} s", pauses=True)

    async def settled(
        self, session: AsyncSession, settlement: Settlement, *, now: datetime
    ) -> None:
        """What else is to be written, in the transaction that settles."""

    def forget(self, rows: Sequence[OutboxRow]) -> None:
        """What was kept for a batch is needed no more."""

    async def close(self) -> None:
        """Let go of connections."""


_MAX_ERROR = 500


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
    counts_from: datetime | None = None
    """The time from which its age counts, where that has changed."""


async def end(
    session: AsyncSession, work: Work, token: str, ends: Sequence[End], *, now: datetime
) -> None:
    """End messages that the claim still holds."""
    rows = [
        {"row_id": each.id, "became": each.became, "why": _cut(each.note), "now": now}
        for each in ends
    ]
    columns = {"status": "became", "error": "why", "settled_at": "now"}
    await change_claimed(session, work, token, columns, rows)


async def schedule_retry(
    session: AsyncSession, work: Work, token: str, retries: Sequence[Retry]
) -> None:
    """Try messages that the claim still holds again, each at its time."""
    columns = {"next_attempt_at": "until", "retry_at": "until", "error": "why", "refusal": "what"}
    for is_moved, clock in ((False, {}), (True, {"counts_from": "since"})):
        rows = [
            {
                "row_id": each.id,
                "until": each.until,
                "why": _cut(each.why),
                "what": each.refusal,
                **({"since": each.counts_from} if is_moved else {}),
            }
            for each in retries
            if (each.counts_from is not None) is is_moved
        ]
        await change_claimed(session, work, token, columns | clock, rows)


async def supersede(session: AsyncSession, keys: Collection[str], *, now: datetime) -> None:
    """End messages, by dedupe key, that nobody has claimed: another one has said what they say."""
    for chunk in chunked(list(keys), 5_000):
        await session.execute(_SUPERSEDE, {"keys": chunk, "now": now})


_SUPERSEDE = (
    update(OUTBOX)
    .where(
        OUTBOX.c.dedupe_key.in_(bindparam("keys", expanding=True)),
        OUTBOX.c.status == literal_column("'pending'"),
        OUTBOX.c.claimed_by.is_(None),
    )
    .values(status="superseded", settled_at=bindparam("now", type_=UtcDateTime), error=None)
)


def _cut(text: str | None) -> str | None:
    return text[:_MAX_ERROR] if text else text
