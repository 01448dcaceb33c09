"""The call budget of one app: how many calls may be made now. Pure; the caller keeps the bucket.

A token bucket of 85 % of `per_minute` with a burst of a tenth: in any 60 s at most 95 % of
`per_minute` calls (and one, where that is less) are granted, whoever asks. The rest is room for
calls that take different times on the way to Makini.

What an answer's headers say of the limit is heeded: Makini's documentation names no such header, so
the usual ones are read where they come: the draft of the IETF (`RateLimit-…`) and its forerunners
(`X-RateLimit-…`).
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Protocol

from linekeeper.makini.failures import retry_after, their_now
from linekeeper.makini.fields import number

LONGEST_WAIT = timedelta(seconds=60)
"""Limits are per minute (MAKINI "Data API"): whatever is said, no more is waited for."""
_AN_INSTANT = 1e9
"""Above it a reset is a Unix time, below it seconds from now."""


@dataclass(frozen=True, slots=True)
class StatedLimit:
    """What is left of a limit, by one answer. Times are UTC."""

    remaining: int
    limit: int | None = None
    resets_at: datetime | None = None


def stated_limit(headers: Mapping[str, str], now: datetime) -> StatedLimit | None:
    """The limit that `headers` state; None where they don't say what is left."""
    remaining = _figure(headers, "remaining")
    if remaining is None or remaining < 0:
        return None
    limit = _figure(headers, "limit")
    known = int(limit) if limit is not None and limit > 0 else None
    return StatedLimit(int(remaining), known, _reset(headers, now))


def closed_until(stated: StatedLimit, now: datetime) -> datetime | None:
    """Until when no call should be made; None where some are left, or no end is stated."""
    if stated.remaining > 0 or stated.resets_at is None or stated.resets_at <= now:
        return None
    return min(stated.resets_at, now + LONGEST_WAIT)


def _header(headers: Mapping[str, str], what: str) -> str | None:
    return headers.get(f"ratelimit-{what}") or headers.get(f"x-ratelimit-{what}")


def _figure(headers: Mapping[str, str], what: str) -> float | None:
    """The first number of a header such as `300, 300;w=60`."""
    value = _header(headers, what)
    return number(value.split(",")[0].split(";")[0].strip()) if value else None


def _reset(headers: Mapping[str, str], now: datetime) -> datetime | None:
    figure, there = _figure(headers, "reset"), their_now(headers, now)
    if figure is not None and figure > _AN_INSTANT:
        try:
            return now + (datetime.fromtimestamp(figure, UTC) - there)
        except (OverflowError, OSError, ValueError):
            return None
    seconds = retry_after(_header(headers, "reset"), there)
    return now + timedelta(seconds=seconds) if seconds is not None else None


RATE_SHARE = 0.85
BURST_SHARE = 0.1
MAX_PENALTY = timedelta(hours=1)
LONGEST_PAUSE = timedelta(seconds=60)
"""A penalty of up to this is waited for: Makini's limits are per minute (MAKINI "Data API"), and
most are over by then. A longer one is an error to whoever wants to call."""
YIELDS_FOR = timedelta(minutes=1)
"""For so long half of the pace is left to the product, which met a limit that both spend."""
CLOCK_SLACK = timedelta(seconds=60)
"""A clock behind the bucket by up to this is waited for; further back, the clock was set back."""

REFUSED_CONNECTIONS, REFUSED_WITHIN = 3, timedelta(minutes=1)
"""So many connections refused within that time: the limit that is reached is the app's."""

LEAST_YIELDING_SHARE = 0.2
"""What waits behind something else (`Bucket.spare`) has this share of the calls for itself."""
WAITS_FOR = timedelta(seconds=6)
"""Who waited so long ago for a call still does: who waits asks every five seconds at least."""

_EXACT = 1e-9


class Precedence(IntEnum):
    """Who goes before whom, while there are fewer calls than are wanted."""

    person = 0
    """Somebody waits for the answer: a customer, an operator, or the product in their place."""
    usual = 1
    last = 2


LOGIN_RATE_SHARE = 0.03
LOGIN_BURST_SHARE = 0.02
LEAST_LOGIN_BURST = 6
"""Logins have a bucket of their own, beside the one of everything else, so that a customer who
logs in doesn't queue behind a sweep. Together the two grant what the app may call. A login takes a
handful of calls, whatever the limit. Where many log in, what their bucket lacks comes from the
other one, before everything else (`Precedence.person`) but for the share of what yields."""


class Paused(Exception):
    """No call may be made for longer than `LONGEST_PAUSE`: another `seconds`.

    With a `connection` that holds for calls on this connection only.
    """

    def __init__(self, seconds: float, connection: str | None = None) -> None:
        whose = f" on {connection}" if connection is not None else ""
        super().__init__(f"no call{whose} for another {seconds:.0f} s")
        self.seconds = seconds
        self.connection = connection


class NothingLeft(Exception):
    """No call may be made at this moment, and who asked does not wait."""


class Budget(Protocol):
    """Whoever counts the calls of all processes together."""

    async def take(
        self, app: str, per_minute: int, *, connection: str | None = None, waits: bool = True
    ) -> None:
        """Return when a call to `app` may be made; it counts as made from then on.

        With `connection` it is a call on this connection, with its own token. A queue is waited
        for however long it is; who does not wait gets `NothingLeft` in its place. Raises `Paused`
        where a penalty closes the app, or this connection, for longer than `LONGEST_PAUSE`.
        """

    async def penalise(
        self,
        app: str,
        until: datetime,
        *,
        connection: str | None = None,
        is_refused: bool = True,
    ) -> None:
        """Let nobody repeat before `until` (UTC) what Makini answered with 429.

        With `connection` calls on this connection wait, else those with the app's own credentials.
        Everything of the app waits for `LONGEST_PAUSE` at most where it may be the app's limit: a
        call with its credentials was refused, or `REFUSED_CONNECTIONS` were within
        `REFUSED_WITHIN`.
        `is_refused` is False where an answer only says that nothing is left of the limit.
        """

    async def note_limit(self, app: str, stated: StatedLimit) -> None:
        """Keep what an answer of `app` said of its call limit, for people to see."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """`tokens` calls could be granted at `at`; none before `blocked_until`. Times are UTC."""

    tokens: float
    at: datetime
    blocked_until: datetime | None = None
    yielded_at: datetime | None = None
    """When somebody else last met the limit (`yield_calls`)."""
    spare: float = 0.0
    """Calls that who yields may be granted at `at`, though others wait."""
    waited_at: datetime | None = None
    """When somebody last had to wait whose turn is not the last."""
    person_waited_at: datetime | None = None
    """When somebody last had to wait for whom a person waits."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one bucket may have of an app's calls a minute."""

    rate: float
    burst: float
    least_burst: int = 1

    def burst_of(self, per_minute: int) -> int:
        """The most calls at once."""
        return max(self.least_burst, math.floor(per_minute * self.burst))


WORK = Share(RATE_SHARE, BURST_SHARE)
LOGINS = Share(LOGIN_RATE_SHARE, LOGIN_BURST_SHARE, LEAST_LOGIN_BURST)


def new_bucket(per_minute: int, now: datetime, share: Share = WORK) -> Bucket:
    """Return the bucket of an app that has not called yet."""
    return Bucket(tokens=float(share.burst_of(per_minute)), at=now)


def grant(
    bucket: Bucket,
    per_minute: int,
    want: int,
    now: datetime,
    share: Share = WORK,
    *,
    ahead: int = 0,
    turn: Precedence = Precedence.usual,
) -> tuple[Bucket, int, float]:
    """Return (bucket afterwards, calls granted now, seconds until more can be).

    Grants as many of `want` as there are, and of `ahead` more; the seconds are 0 when it is all
    that is wanted. While others wait whose `turn` comes before, no more is granted than a share for
    those who yield.
    `now` comes from one clock for everybody (the database's): set back by any amount it never
    grants more, and delays calls by at most a minute.
    """
    if per_minute <= 0 or want + ahead <= 0:
        return bucket, max(want + ahead, 0), 0.0
    until_the_clock = max((_set_back(bucket, now).at - now).total_seconds(), 0.0)
    bucket = _filled(bucket, per_minute, now, share)
    tokens, spare, rate = bucket.tokens, bucket.spare, per_minute * share.rate / 60
    blocked = bucket.blocked_until
    if blocked is not None and blocked > now:
        return bucket, 0, _seconds(now, blocked)
    left, yields = tokens, _yields(bucket, turn, now)
    if yields:
        left, rate = min(tokens, spare), rate * LEAST_YIELDING_SHARE
    if is_yielding(bucket, now):
        rate /= 2
    granted = min(want + ahead, max(math.floor(left + _EXACT), 0))
    bucket = replace(bucket, tokens=tokens - granted, blocked_until=None)
    if yields or turn is Precedence.last:
        bucket = replace(bucket, spare=max(spare - granted, 0.0))
    if granted < want and turn is not Precedence.last:
        person = now if turn is Precedence.person else bucket.person_waited_at
        bucket = replace(bucket, waited_at=now, person_waited_at=person)
    if granted >= want:
        return bucket, granted, 0.0
    return bucket, granted, until_the_clock + max(1 - (left - granted), 0.0) / rate


def _yields(bucket: Bucket, turn: Precedence, now: datetime) -> bool:
    """Whether somebody waits whose turn comes before."""
    if turn is Precedence.person:
        return False
    before = bucket.waited_at if turn is Precedence.last else bucket.person_waited_at
    return before is not None and abs(now - before) < WAITS_FOR


def penalise(bucket: Bucket, until: datetime, now: datetime) -> Bucket:
    """Return the bucket, empty and closed until `until` (an hour ahead at most).

    A shorter penalty never ends a longer one.
    """
    bucket = _set_back(bucket, now)
    until = min(until, now + MAX_PENALTY)
    if bucket.blocked_until is not None:
        until = max(until, bucket.blocked_until)
    tokens = min(bucket.tokens, 0.0)
    return replace(bucket, tokens=tokens, at=max(bucket.at, now), blocked_until=until)


def is_yielding(bucket: Bucket, now: datetime) -> bool:
    """Whether half of the pace is left to whoever else spends the same limit."""
    return bucket.yielded_at is not None and now - bucket.yielded_at < YIELDS_FOR


def _filled(bucket: Bucket, per_minute: int, now: datetime, share: Share) -> Bucket:
    """The bucket with the calls that have come to it by `now`."""
    bucket = _set_back(bucket, now)
    more = _seconds_that_count(bucket, now) * per_minute * share.rate / 60
    burst = share.burst_of(per_minute)
    most_spare = max(burst * LEAST_YIELDING_SHARE, 1.0)
    return replace(
        bucket,
        tokens=min(float(burst), bucket.tokens + more),
        spare=min(most_spare, bucket.spare + more * LEAST_YIELDING_SHARE),
        at=max(bucket.at, now),
    )


def _seconds_that_count(bucket: Bucket, now: datetime) -> float:
    """The seconds since the bucket was last looked at; those in which it yields count half."""
    passed = max(now - bucket.at, timedelta())
    yielding = timedelta()
    if bucket.yielded_at is not None:
        since, until = bucket.yielded_at, bucket.yielded_at + YIELDS_FOR
        yielding = max(min(now, until) - max(bucket.at, since), timedelta())
    return (passed - yielding / 2).total_seconds()


def yield_calls(bucket: Bucket, per_minute: int, now: datetime, share: Share = WORK) -> Bucket:
    """Return the bucket at half its pace for a minute: somebody else met the limit it spends.

    What had been saved up is theirs as well, once: however often they meet it, half is left.
    """
    bucket = _filled(bucket, per_minute, now, share)
    tokens = bucket.tokens if is_yielding(bucket, now) else min(bucket.tokens, 0.0)
    return replace(bucket, tokens=tokens, yielded_at=now)


def is_apps_limit(refused_at: Collection[datetime], now: datetime) -> bool:
    """Whether connections refused at these times mean that the app's own limit is reached."""
    recent = [at for at in refused_at if now - at < REFUSED_WITHIN]
    return len(recent) >= REFUSED_CONNECTIONS


def _set_back(bucket: Bucket, now: datetime) -> Bucket:
    """Move a bucket from the future to `now`: emptied, a penalty keeps what is left of it."""
    jump = bucket.at - now
    if jump <= CLOCK_SLACK:
        return bucket
    blocked = bucket.blocked_until - jump if bucket.blocked_until is not None else None
    yielded = bucket.yielded_at - jump if bucket.yielded_at is not None else None
    tokens = min(bucket.tokens, 0.0)
    return replace(bucket, tokens=tokens, at=now, blocked_until=blocked, yielded_at=yielded)


def _seconds(start: datetime, end: datetime) -> float:
    return (end - start).total_seconds()
