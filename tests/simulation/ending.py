"""Logins that end within days, and that Makini renews no more: their customers are told in time.

From some universe on, in a share of them. What is checked: each such mail is about a login that
ends, none is sent once it was renewed, and whoever was at work meanwhile has got one.
"""

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import Random
from typing import TYPE_CHECKING

from tests.simulation.renewed import MEANWHILE, renewed_meanwhile
from tests.simulation.working_hours import is_at_work

if TYPE_CHECKING:
    from tests.simulation.makini.connection import Connection
    from tests.simulation.oracle import Oracle
    from tests.simulation.universe import Universe

ENDING = "ending"
ENDING_FROM = 30_000
CHANCE = 0.2
APART = frozenset({"tokens", "pairs", "deadline"})
"""Kinds that end a token or its renewal in another way, which asks for another mail."""
HINDERS = frozenset(
    {"mail", "clock", "day", "settings", "statements", "away", "dark keys", MEANWHILE}
)
RENEWED = timedelta(minutes=2)
"""From a login that was answered as done until no mail speaks of the one before."""
NOTIFIED_WITHIN = timedelta(minutes=45)
"""From the first look at what ends, of working hours."""


@dataclass
class Ending:
    """A login that ends."""

    key: str
    email: str
    until: datetime
    renewed_at: datetime | None = None


async def endings(universe: "Universe", rng: Random) -> None:
    """Up to three logins end in three to six days; some customers log in again before that."""
    universe.truth.personality = replace(universe.personality, mint="refused")
    universe.personality = universe.face.personality = universe.truth.personality
    now, living = universe.now(), universe.truth.living()
    chosen = rng.sample(living, min(3, len(living)))
    with closing(sqlite3.connect(universe.home / "linekeeper.db")) as db, db:
        for connection in chosen:
            until = now + timedelta(hours=rng.uniform(72, 160))
            connection.pairs[-1].access_until, connection.pairs[-1].refresh_until = until, now
            universe.people.endings.append(Ending(connection.key, connection.email, until))
            universe.say(f"ending: the login of {connection.key} ends {until:%d %H:%M}")
            db.execute(
                "UPDATE credential SET expires_at = ? WHERE connection_id ="
                " (SELECT id FROM connection WHERE makini_key = ?)",
                (until.isoformat(timespec="microseconds"), connection.key),
            )
    if MEANWHILE in universe.people.kinds:
        await renewed_meanwhile(universe, rng, chosen, universe.people.endings)
    while not universe.calm:
        await asyncio.sleep(rng.uniform(300.0, 1500.0) * universe.plan.pace)
        for connection, ending in zip(chosen, universe.people.endings, strict=True):
            is_here = connection.login_ok and not connection.deleted
            if ending.renewed_at is None and is_here and _mails(universe, ending.email):
                universe.acted.add(ENDING)
                before = connection.pairs[-1]
                await universe.people.customers.log_in_to(connection)
                # A link that was refused, as by a clock of tomorrow, renewed nothing.
                if connection.successor or connection.pairs[-1] is not before:
                    ending.renewed_at = universe.now()
                break


def _mails(universe: "Universe", email: str) -> bool:
    return any(email in mail.recipients for mail in universe.mail.taken)


def is_ending(oracle: "Oracle", connection: "Connection") -> bool:
    """Whether nothing of ours may renew its login, and nobody has logged in since."""
    return any(
        each.key == connection.key and each.renewed_at is None
        for each in oracle.universe.people.endings
    )


def wrongly_notified(oracle: "Oracle") -> Iterator[str]:
    """Whoever is told that a login ends has one that does; and whoever has one is told."""
    universe = oracle.universe
    of_endings = {
        row["id"]
        for row in oracle.rows("SELECT id, payload FROM outbox WHERE channel = 'email'")
        if json.loads(row["payload"]).get("do") == ENDING
    }
    notices = [
        mail for mail in universe.mail.taken
        if mail.identity.strip("<>").partition("@")[0] in of_endings
    ]  # fmt: skip
    for mail in notices:
        theirs = [each for each in universe.people.endings if each.email in mail.recipients]
        whom, at = mail.recipients[0], f"{mail.at:%d %H:%M:%S}"
        if not theirs:
            yield f"ending: {whom} was told at {at} that a login ends, and none does"
        for each in theirs:
            if each.renewed_at is not None and mail.at > each.renewed_at + RENEWED:
                yield f"ending: {whom} logged in {each.renewed_at:%H:%M:%S}, and was told at {at}"
    if universe.people.kinds & HINDERS:
        return
    for each in universe.people.endings:
        connection = universe.truth.connections[each.key]
        since = universe.begins + NOTIFIED_WITHIN
        until = min(universe.calm_since, connection.deleted_at or universe.calm_since)
        was_lost = any(not works for _, works in connection.logins)
        zone = universe.zones.get(each.email, "UTC")
        at_work = [since + timedelta(minutes=n) for n in range(0, 45, 15)]
        is_due = at_work[-1] < until and all(is_at_work(at, zone) for at in at_work)
        if is_due and not was_lost and not any(each.email in mail.recipients for mail in notices):
            yield f"ending: {each.email} was not told that a login ends {each.until:%d %H:%M}"
