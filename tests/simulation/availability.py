"""The minutes Linekeeper says were waited, and for what, against what was so."""

import asyncio
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from pydantic import SecretStr

from linekeeper.availability.decide import History, Span, Troubles, Waiting, line_of
from linekeeper.availability.queries import read_histories, read_troubles
from linekeeper.settings import Settings
from linekeeper.store import Store
from tests.simulation.makini.truth import Connection
from tests.simulation.ports import KEY
from tests.simulation.universe import Universe

MINUTE = timedelta(minutes=1)
NOTICED_WITHIN = timedelta(minutes=25)
"""Three misses, in sweeps as far apart as they are here, and a word of Makini's that lags."""


@dataclass
class Agreement:
    """Of one universe: what is broken, and how many minutes agree with the truth."""

    broken: list[str] = field(default_factory=list)
    minutes: int = 0
    agreed: int = 0


def compare(universe: Universe, database: Path) -> Agreement:
    """Every minute of every connection since it was live."""
    found, now = Agreement(), universe.now()
    span = Span(now - timedelta(days=400), now)
    histories, troubles = asyncio.run(_read(database, span))
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as db:
        keys = dict(db.execute("SELECT id, makini_key FROM connection").fetchall())
    for history in histories:
        line = line_of(history, troubles, span)
        live = sum((until - since for since, until in _live(history, now)), timedelta())
        if abs(line.total - live / MINUTE) > 0.51:  # each is rounded
            found.broken.append(
                f"availability: {history.label} was live for {live}, its minutes are {line.total}"
            )
        truth = universe.truth.connections.get(keys[history.connection_id])
        sick = universe.people.sick
        failing = {*universe.people.failing, sick.connection.key if sick else ""}
        if truth is not None and truth.key not in failing:
            for since, until in _live(history, now):
                _each_minute(found, history, troubles, truth, Span(since, until))
    return found


def _each_minute(
    found: Agreement, history: History, troubles: Troubles, truth: Connection, live: Span
) -> None:
    at = live.since
    while at + MINUTE <= live.until:
        line = line_of(history, troubles, Span(at, at + MINUTE))
        said = max(line.minutes, key=lambda waiting: line.minutes[waiting])
        found.minutes += 1
        found.agreed += said in set(_so(truth, at))
        at += MINUTE


def _so(truth: Connection, at: datetime) -> Iterator[Waiting]:
    """What was so in the time in which it has to be noticed, until the end of the minute."""
    states = [(since, word) for since, word in truth.states if since < at + MINUTE]
    for (_, word), (until, _) in zip(states, [*states[1:], (at + MINUTE, "")], strict=True):
        if until > at - NOTICED_WITHIN:
            yield Waiting(word)
            if word == Waiting.customer_system:
                # A sync status `error` is all that Makini says of it, and not whose fault it is.
                yield Waiting.makini


def _live(history: History, now: datetime) -> Iterator[tuple[datetime, datetime]]:
    turns = [*history.setup]
    for turn, until in zip(turns, [*[turn.at for turn in turns[1:]], now], strict=True):
        if turn.value == "live":
            yield turn.at, until


async def _read(database: Path, span: Span) -> tuple[list[History], Troubles]:
    settings = Settings(home=database.parent, encryption_keys=(SecretStr(KEY),))
    async with Store.open(settings) as store, store.read() as session:
        return await read_histories(session, span), await read_troubles(session, span)
