"""A login that is kept until Makini says whose it is, and a person who mails the link meanwhile.

Within the hour after it nobody asks that customer for another one, not even a person's press.
"""

import asyncio
from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random
from typing import TYPE_CHECKING

from tests.simulation.episodes import Episode
from tests.simulation.heard import STATUS
from tests.simulation.lost import line_of, was_lost
from tests.simulation.net import Fault, Request

if TYPE_CHECKING:
    from tests.simulation.mail_server import Mail
    from tests.simulation.makini.connection import Connection
    from tests.simulation.oracle import Oracle
    from tests.simulation.second_acts import SecondActs
    from tests.simulation.universe import Universe

DOUBTED = "doubted"
LOST = "reauthorization_required"
SAYS_NOTHING = (240.0, 700.0, 1500.0)
"""Seconds for which Makini says nothing of the connection."""
PRESSED_AFTER = (20.0, 150.0, 400.0)
SETTLED_WITHIN = timedelta(minutes=2)
"""Mails that were decided before the login are on their way by then."""
VERIFIED_FOR = timedelta(minutes=50)
CLOCKS = timedelta(minutes=6)


async def doubts(universe: "Universe", acts: "SecondActs", rng: Random) -> None:
    """A customer logs in while Makini's status says nothing; then somebody mails the link again."""
    await asyncio.sleep(rng.uniform(60.0, 300.0) * universe.plan.pace)
    while not universe.calm:
        connection = acts.one()
        if connection is not None and universe.faulty(DOUBTED):
            universe.say(f"doubted: {connection.key} loses its login")
            universe.truth.lose_login(connection, universe.now())
            key = connection.key
            if await acts.until(lambda key=key: universe.is_open(key, LOST), within=900.0):
                await asyncio.sleep(rng.choice((20.0, 120.0)))
                await _doubted(universe, connection, rng)
        await asyncio.sleep(rng.uniform(60.0, 900.0) * universe.plan.pace)


async def _doubted(universe: "Universe", connection: "Connection", rng: Random) -> None:
    people = universe.people
    incidents = universe.ask(
        "SELECT m.incident_id FROM incident_connection m JOIN connection c"
        " ON c.id = m.connection_id WHERE c.makini_key = ? AND m.kind = ? AND m.left_at IS NULL",
        (connection.key, LOST),
    )
    if not incidents or connection.deleted or connection.login_ok or universe.calm:
        return
    now = universe.now()

    def is_its_status(request: Request) -> bool:
        newest = universe.truth.connections.get(connection.successor or connection.key)
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        pairs = newest.pairs if newest is not None else ()
        return request.path == STATUS and any(pair.access == token for pair in pairs)

    until = now + timedelta(seconds=rng.choice(SAYS_NOTHING))
    words = f"Makini's status says nothing of {connection.key}"
    people.episodes.begin(Episode(until, is_its_status, Fault("status", 503), words, now, ""))
    universe.say(f"doubted: {words}")
    kept = len(people.customers.kept_for_now)
    await people.customers.log_in_to(connection)
    await asyncio.sleep(rng.choice(PRESSED_AFTER))
    if len(people.customers.kept_for_now) > kept and not universe.calm:
        is_taken = await people.operators.send_again(incidents[0][0])
        universe.say(f"doubted: the link is to be mailed again: {is_taken}")
        universe.acted.add(DOUBTED)


def mailed_while_kept(oracle: "Oracle") -> Iterator[str]:
    """Nobody whose login is kept, and works, is asked for another one within the hour."""
    universe = oracle.universe
    for mail in universe.mail.taken:
        if not mail.asks_for_a_login:
            continue
        for key, address, at in universe.people.customers.kept_for_now:
            is_meanwhile = at + SETTLED_WITHIN < mail.at < at + VERIFIED_FOR
            if address in mail.recipients and is_meanwhile and _works(oracle, key, at, mail):
                yield (
                    f"mail: {address} logged in at {at:%H:%M:%S}, which is kept, and was mailed "
                    f"at {mail.at:%H:%M:%S}: {mail.subject}"
                )


def _works(oracle: "Oracle", key: str, since: datetime, mail: "Mail") -> bool:
    """Whether that login works, and no other of that customer, nor a pair of theirs, was lost."""
    truth, until = oracle.universe.truth, mail.at + CLOCKS
    has_lost_pair = oracle.universe.people.pairs.was_locked_out
    made = truth.connections[key]
    before = line_of(truth, made)[1:]
    theirs = [
        each for each in truth.connections.values()
        if each.email in mail.recipients and each not in before
    ]  # fmt: skip
    is_gone = made.deleted_at is not None and made.deleted_at <= until
    return not is_gone and not any(
        was_lost(each, since, until) or has_lost_pair(each) for each in theirs
    )
