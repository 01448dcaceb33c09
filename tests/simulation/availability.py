"""The minutes Linekeeper says were waited, and for what, against what was so.

What was so is the model's, with two limits that lie in Makini's contract and not in Linekeeper:

- Of a customer's system that is off line Makini says `error`. Its contract doesn't say whose fault
  an `error` is, so that the true answer to "whom does it wait for?" is that it isn't known.
- Where Makini's words lag behind what is so, and nothing else says it, nobody can know. Such
  minutes are not judged; they neither agree nor disagree.
"""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from pydantic import SecretStr

from linekeeper.availability.decide import History, TimeSpan, Troubles, WaitedFor, line_of
from linekeeper.availability.service import read_histories
from linekeeper.availability.troubles import read_troubles
from linekeeper.settings import Settings
from linekeeper.store import Store
from tests.simulation.lost import is_token_missing, is_unreadable, was_lost
from tests.simulation.makini.connection import Connection
from tests.simulation.rare import RECEIVER_BEAT_SECONDS
from tests.simulation.universe import Universe

T = TypeVar("T")
MINUTE = timedelta(minutes=1)
RECEIVER_BEATS = timedelta(seconds=RECEIVER_BEAT_SECONDS) + MINUTE
DAY = 86_400.0
"""A sender's grain, in seconds."""
NOTICED_WITHIN = timedelta(minutes=25)
"""Three misses, in sweeps as far apart as they are here."""
SWEEPS = 3
"""So many that came to their end, and everything that lasts was noticed."""
ENOUGH_MINUTES, MISTAKEN = 90, 0.7
"""Of so many minutes of one cause in one universe, the share that may not be said wrongly."""
FALLS, FALLS_WITHIN, FLAPS_FOR = 3, timedelta(hours=1), timedelta(minutes=30)
"""What falls so often within so long is *degraded* until it was quiet for so long, as is
documented: whose time that is nobody says."""
KNOWABLE = {"customer_system": WaitedFor.unknown}
"""What of the truth Makini's words can say at all."""


@dataclass
class Agreement:
    """Of one universe: what is broken, and how many minutes agree with the truth."""

    broken: list[str] = field(default_factory=list)
    minutes: int = 0
    agreed: int = 0
    hidden: int = 0
    """Minutes in which Makini's words lagged, so that nobody could know."""
    exact: int = 0
    """Of `minutes`: those that agree with what was so in that very minute."""
    differing: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By what was said and what was so: minutes that don't agree."""
    by_truth: Counter[str] = field(default_factory=Counter)
    """By what was so: minutes that were judged."""

    def mistaken(self) -> Iterator[str]:
        """What is nearly always said to be something else than it is."""
        for so, minutes in self.by_truth.items():
            wrong = sum(count for (_, truth), count in self.differing.items() if truth == so)
            if minutes >= ENOUGH_MINUTES and wrong > MISTAKEN * minutes:
                yield f"availability: of {minutes} minutes {so}, {wrong} were said to be otherwise"


def compare(universe: Universe, database: Path) -> Agreement:
    """Every minute of every connection since it was live."""
    found, now = Agreement(), universe.now()
    if "day" in universe.people.kinds:
        return found  # our own times are not those of the world
    span = TimeSpan(now - timedelta(days=400), now)
    histories, troubles = asyncio.run(_read(database, span, universe.keys))
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as db:
        keys = dict(db.execute("SELECT id, makini_key FROM connection").fetchall())
    for history in histories:
        line = line_of(history, troubles, span)
        live = sum((until - since for since, until in _live(history, now)), timedelta())
        if abs(line.total - live / MINUTE) > 0.51:  # each is rounded
            found.broken.append(
                f"availability: {history.label} was live for {live}, its minutes are {line.total}"
            )
        connection = universe.truth.connections.get(keys[history.connection_id])
        if connection is not None and not universe.people.pairs.was_locked_out(connection):
            truth = Truth(universe, connection)
            for since, until in _live(history, now):
                _each_minute(found, history, troubles, truth, TimeSpan(since, until))
    found.broken += found.mistaken()
    return found


class Truth:
    """What one connection waited for, minute by minute."""

    def __init__(self, universe: Universe, connection: Connection) -> None:
        self._connection = connection
        self._noticed_within = NOTICED_WITHIN * max(1.0, universe.plan.pace)
        self._sweeps = sorted(
            (run.ended_at, run.start_time) for run in universe.prefect.runs.values()
            if run.deployment == "health-sweep" and run.has_done_its_work
            and run.ended_at is not None and run.start_time is not None
        )  # fmt: skip
        """Of each that came to its end: its end, and its beginning."""
        self._begins = universe.begins
        personality = universe.personality
        # An event that is dated by the day may be from before a login: it waits for a read. One
        # that was lost on its way told nothing.
        self._is_unreadable = is_unreadable(universe, connection)
        self._is_token_missing = partial(is_token_missing, universe, connection)
        is_announced = not any(
            post.event == personality.auth_event and post.connection == connection.key
            for post in universe.lost
        )
        self._announced = bool(personality.auth_event) and personality.grain < DAY and is_announced
        people = universe.people
        self._makini = [TimeSpan(each.since, each.until) for each in people.over if each.everywhere]
        self._alone = [
            TimeSpan(each.since, each.until) for each in people.over if each.key == connection.key
        ]
        sick = people.sick
        self._is_withheld = False
        """Whether Makini lets nobody ask for it, for hours: then nothing can be known of it."""
        if sick is not None and sick.connection is connection and not sick.entity:
            self._is_withheld = sick.fault.status == 429
            self._alone.append(TimeSpan(connection.created_at, universe.now()))
        self._out = [TimeSpan(*each) for each in people.operators.out]
        self._product = universe.product.answers
        self._lists = [(when, connection.key in keys) for when, keys in universe.face.lists]
        self._unwatched = [
            TimeSpan(since, until + self._noticed_within)
            for since, until in people.unusual.unwatched
        ]

    def at(self, at: datetime) -> WaitedFor:
        """What was so at `at`, as far as it can be known at all."""
        word = _last(self._connection.states, at, "healthy")
        if word == "us":
            return WaitedFor.us
        if word != "customer_login" and any(span.covers(at) for span in self._out):
            return WaitedFor.unknown  # its app is out of the settings: nobody looks
        if any(span.covers(at) for span in self._makini):
            return WaitedFor.makini
        if word != "healthy":
            return KNOWABLE.get(word) or WaitedFor(word)
        if any(span.covers(at) for span in self._alone):
            if self._is_withheld:
                return WaitedFor.unknown
            return WaitedFor.customer_system  # Makini answers for the others, and not for this one
        taken = _last(self._product, at, True)
        return WaitedFor.healthy if taken else WaitedFor.product

    def noticed_since(self, at: datetime) -> datetime:
        """What was so at this moment, and lasts, is noticed by `at`.

        Sweeps that were killed on their way, or never begun, noticed nothing.
        """
        began = [start for end, start in self._sweeps if end <= at]
        swept = began[-SWEEPS] if len(began) >= SWEEPS else self._begins
        return min(at - self._noticed_within, swept)

    def is_hidden(self, at: datetime) -> bool:
        """Whether Makini says something else of the connection than is so, and nothing else can.

        Nothing is so of one that is gone there, until it is known here to be gone. Nothing is swept
        while Prefect is away. Nor can its own words say that a login is lost, or that one works
        which somebody made meanwhile, while no call of the connection is answered. One that was
        made anew, and of which nobody has a token, is of no use, though all of it works.
        """
        gone_at = self._connection.deleted_at
        if gone_at is not None and at + MINUTE > gone_at:
            return True
        if self._is_token_missing(at):
            return True
        if any(span.covers(at) for span in self._unwatched) or self._is_unlisted(at):
            return True
        so = _last(self._connection.states, at, "healthy")
        unheard = [span for span in self._alone if span.covers(at)]
        if so == "customer_login":
            is_deaf = bool(unheard) or self._is_unreadable or self._worded(at) != so
            return not self._announced and is_deaf
        back_at = self._logged_in_at(at)
        if back_at is not None and any(span.covers(back_at) for span in unheard):
            return True
        return self._worded(at) != so

    def _logged_in_at(self, at: datetime) -> datetime | None:
        """When the login was found again that was last lost before `at`; None if it never was."""
        turns = self._connection.states
        lost = [number for number, (when, so) in enumerate(turns)
                if so == "customer_login" and when <= at]  # fmt: skip
        return turns[lost[-1] + 1][0] if lost else None

    def within(self, since: datetime, until: datetime) -> set[WaitedFor]:
        """Everything that was so, or that Makini said, between two moments."""
        connection = self._connection
        moments = {since, until}
        moments |= {at for at, _ in (*connection.states, *self._product)}
        moments |= {at for at, _, _ in connection.words}
        for span in (*self._makini, *self._alone, *self._out):
            moments |= {span.since, span.until}
        inside = [at for at in moments if since <= at <= until]
        words = {self._worded(at) for at in inside if self.is_hidden(at)}
        so = {self.at(at) for at in inside} | {
            KNOWABLE.get(word) or WaitedFor(word) for word in words
        }
        if so & {WaitedFor.us, WaitedFor.makini} and was_lost(connection, since, until):
            so.add(WaitedFor.customer_login)  # both are so, and each may have been said first
        if so & {WaitedFor.healthy, WaitedFor.product}:
            # What is still held healthy waits for the product as long as that is away.
            taken = {_last(self._product, at, True) for at in inside}
            so |= {WaitedFor.healthy if each else WaitedFor.product for each in taken}
        if self._flapped(since, until):
            so.add(WaitedFor.unknown)
        return so

    def _flapped(self, since: datetime, until: datetime) -> bool:
        """Whether it fell so often that it may have counted as flapping between two moments."""
        falls = [
            at
            for (_, before), (at, so) in pairwise(self._connection.states)
            if before == "healthy" != so and at <= until
        ]
        rows = zip(falls, falls[FALLS - 1 :], strict=False)
        return any(
            last - first <= FALLS_WITHIN and last + FLAPS_FOR >= since for first, last in rows
        )

    def _is_unlisted(self, at: datetime) -> bool:
        """Whether the last list lacked it, and none since one that named it says what changed.

        That it is inactive only the list says; its own status is as good as before.
        """
        if _last(self._lists, at, True):
            return False
        named = [when for when, is_named in self._lists if is_named and when <= at]
        known = max(named, default=self._connection.created_at)
        return (self._worded(known) == "us") != (self._worded(at) == "us")

    def _worded(self, at: datetime) -> str:
        """The state that Makini's words at that moment stand for."""
        words = self._connection.word(at)
        return "us" if words[0] == "Inactive" else _STATES[words[1]]


_STATES = {
    "fail": "customer_login", "error": "customer_system",
    "done": "healthy", "fulldone": "healthy", "inprogress": "healthy",
}  # fmt: skip
"""What is so, where Makini's sync status says this."""


def _last(turns: list[tuple[datetime, T]], at: datetime, otherwise: T) -> T:
    for since, value in reversed(turns):
        if since <= at:
            return value
    return otherwise


def _each_minute(
    found: Agreement, history: History, troubles: Troubles, truth: Truth, live: TimeSpan
) -> None:
    at = live.since
    while at + MINUTE <= live.until:
        line = line_of(history, troubles, TimeSpan(at, at + MINUTE))
        said = max(line.minutes, key=lambda waiting: line.minutes[waiting])
        # Where no sweep is completed it says itself that it doesn't know.
        is_unwatched = any(
            span.since < at + MINUTE and at < span.until for span in troubles.unwatched
        )
        if truth.is_hidden(at) or is_unwatched:
            found.hidden += 1
        else:
            so = truth.at(at)
            # What was so in this very minute is among what was so lately.
            since = truth.noticed_since(at)
            agrees = said == so or said in truth.within(since, at + MINUTE)
            # Its last beat may lie three minutes before a receiver ends here, not ten seconds.
            agrees |= said is WaitedFor.us and any(
                span.since < at + MINUTE and at < span.until <= span.since + RECEIVER_BEATS
                for span in troubles.ours
            )
            if since <= live.since:  # nobody had looked when it came into the books
                agrees |= said is WaitedFor.unknown
            found.minutes += 1
            found.by_truth[so.value] += 1
            found.exact += said == so
            found.agreed += agrees
            if not agrees:
                found.differing[said.value, so.value] += 1
        at += MINUTE


def _live(history: History, now: datetime) -> Iterator[tuple[datetime, datetime]]:
    turns = [*history.setup]
    for turn, until in zip(turns, [*[turn.at for turn in turns[1:]], now], strict=True):
        if turn.value == "live":
            yield turn.at, until


async def _read(database: Path, span: TimeSpan, keys: list[str]) -> tuple[list[History], Troubles]:
    settings = Settings(home=database.parent, encryption_keys=tuple(map(SecretStr, keys)))
    async with Store.open(settings) as store, store.read() as session:
        troubles = await read_troubles(session, span)
        return await read_histories(session, span, troubles), troubles
