"""The last act of every universe: what is healthy does its work within its bounds.

Everything that went wrong is over by now. Records change, the same one twice with the same
webhook; one customer loses the login, is asked, and logs in. What is not noticed, handed on and
cleared in time is broken.
"""

import asyncio
import re
from datetime import datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any

from tests.simulation.lost import is_unreadable
from tests.simulation.machine import seed_of
from tests.simulation.makini.connection import Connection
from tests.simulation.patience import AT_ONCE, OVERDUE_WITHIN
from tests.simulation.slack import Message

if TYPE_CHECKING:
    from tests.simulation.universe import Universe

FORWARDED_WITHIN = timedelta(seconds=90)
NOTICED_SECONDS = 300.0
"""From a webhook about a lost login to its incident and its message."""
CLEARED_SECONDS = 420.0
"""From the customer's login to a message that says that it is over, where Makini's status word
doesn't lag. Where it does, it still says `fail` at the login, which is kept; then the next sweep
decides, with a read if need be."""
SWEEP_SECONDS = 300.0
UNDATED_SECONDS = 60.0
"""An event whose time is cut down to more may be older than what was read since; the next sweep
settles it with a read."""


class Rehearsal:
    """Plays the last act; what was late is in `universe.found`."""

    def __init__(self, universe: "Universe", trouble: Any) -> None:
        self.universe = universe
        self.trouble = trouble
        self.rng = Random(seed_of(universe.plan.seed, "rehearsal"))

    async def play(self) -> None:
        """All of it."""
        universe = self.universe
        well = [each for each in universe.truth.living() if self._is_well(each)]
        if not well:
            return
        loser = self.rng.choice(well) if len(well) > 1 else None
        others = [each for each in well if each is not loser]
        universe.say("rehearsal")
        changes = self._change(others)
        self._change([each for each in universe.truth.living() if self._is_busy_and_sick(each)])
        if loser is not None:
            universe.say(f"rehearsal: {loser.key} loses its login")
            universe.truth.lose_login(loser, universe.now())
        await asyncio.sleep(150.0)
        changes += self._change(others)
        await asyncio.sleep(NOTICED_SECONDS - 150.0)
        for connection, key, at in changes:
            self._expect_forward(connection, key, at)
        if loser is not None:
            await self._lost(loser)

    def _is_well(self, connection: Connection) -> bool:
        fine = connection.login_ok and connection.online and connection.active
        changed = connection.states[-1][0]
        settled = self.universe.now() - changed > timedelta(minutes=35)
        # Switched off for want of credits, or without a login, as far as Makini's late word goes:
        # then that is said.
        now = self.universe.now()
        spoken_well_of = _is_spoken_well_of(connection, now, now + timedelta(minutes=20))
        return bool(
            fine and settled and spoken_well_of and connection.offers
            and not self.trouble.is_sick(connection)
            and not is_unreadable(self.universe, connection)
            and not self.trouble.patience.excuses(connection, AT_ONCE)
            and any(connection.live(entity) for entity in connection.offers)
        )  # fmt: skip

    def _is_busy_and_sick(self, connection: Connection) -> bool:
        entity = next((name for name in connection.offers if connection.live(name)), None)
        return entity is not None and connection.login_ok and self.trouble.is_sick(connection)

    def _change(self, connections: list[Connection]) -> list[tuple[Connection, str, datetime]]:
        """One record of each, always the same one."""
        truth, now = self.universe.truth, self.universe.now()
        changed = []
        for connection in connections:
            entity = next(name for name in connection.offers if connection.live(name))
            number = min(record.number for record in connection.live(entity))
            truth.touch(connection, entity, number, now)
            key = next(
                record.key
                for record in connection.records[entity].values()
                if record.number == number
            )
            changed.append((connection, key, now))
        return changed

    def _expect_forward(self, connection: Connection, key: str, at: datetime) -> None:
        whose: set[str | None] = {connection.key}
        if self.universe.personality.webhook_connection == "none":
            known = self._known_with(key)
            if connection.key not in known:
                whose |= {None, *known}
            elif self._is_compared_later(connection, at) or self._is_not_asked(connection, at):
                whose.add(None)
        for forwarded in self.universe.product.taken:
            within = timedelta() <= forwarded.at - at <= FORWARDED_WITHIN
            if within and forwarded.makini_key in whose and key in forwarded.keys:
                return
        self.universe.found.append(
            f"late: the change of {connection.key} {key} of {at:%H:%M:%S} did not reach the "
            f"product within {FORWARDED_WITHIN.total_seconds():g} s"
        )

    def _is_compared_later(self, connection: Connection, at: datetime) -> bool:
        """Whether the records of a new connection are not compared with the one before yet.

        Where webhooks name no connection, its records are told from those of others by what
        changed. While a record of it hasn't been read, be it that its entity could never be, a
        webhook is taken to be of those that have one, or of none.
        """
        until = connection.syncing_until
        return until is not None and at < until + OVERDUE_WITHIN

    def _is_not_asked(self, connection: Connection, at: datetime) -> bool:
        """Whether the last sweep may have heard Makini's late word that it is off, or without a
        login: then whether a record of it changed is found out by a poll.

        Where webhooks name no connection and others have that key, the event is of none.
        """
        sweep = timedelta(seconds=SWEEP_SECONDS * self.universe.pace + 60.0)
        return not _is_spoken_well_of(connection, at - sweep, at)

    def _known_with(self, key: str) -> set[str]:
        """The connections of which a record with that key has been read."""
        rows = self.universe.ask(
            "SELECT c.makini_key FROM record r JOIN connection c ON c.id = r.connection_id"
            " WHERE r.key = ?", (key,),
        )  # fmt: skip
        return {row[0] for row in rows}

    async def _lost(self, loser: Connection) -> None:
        universe, personality = self.universe, self.universe.personality
        if not personality.auth_event:
            if personality.status_lag > 600:
                return  # nothing tells of it within the hour
            await asyncio.sleep(personality.status_lag + 660.0 * universe.pace)
        elif personality.grain >= UNDATED_SECONDS:  # the event's time says little: a read has to
            await asyncio.sleep(max(0.0, SWEEP_SECONDS * universe.pace + 120.0 - NOTICED_SECONDS))
        elif personality.status_lag and not universe.is_open(loser.key, "reauthorization_required"):
            # A sweep asked in the second between the loss and its event, and was told that all is
            # well: the event counts as older then, and the next sweep settles it with a read.
            await asyncio.sleep(max(0.0, SWEEP_SECONDS * universe.pace + 120.0 - NOTICED_SECONDS))
        if loser.login_ok or loser.successor:
            return  # whoever was asked has logged in already
        if not universe.is_open(loser.key, "reauthorization_required"):
            universe.found.append(f"late: nobody noticed that {loser.key} lost its login")
            return
        shown = universe.shown_of(loser.name)
        if not any("Reauthorization required" in text for text in shown):
            universe.found.append(f"late: no message says that {loser.key} lost its login")
        if not (self._was_mailed(loser) or self._is_said_to_be_unknown(loser)):
            universe.found.append(f"late: {loser.email} was not mailed that the login is lost")
        is_in = await self.trouble.customers.log_in_to(loser)
        # Another person of theirs, asked by the same link, may have been faster by some seconds.
        if not (is_in or loser.login_ok or loser.successor):
            universe.found.append(f"late: {loser.key} is not asked to log in")
            return
        key = loser.successor or loser.key
        if key in self.trouble.customers.refused:
            return  # by another customer's link: two lists have to show what became of it
        await asyncio.sleep(CLEARED_SECONDS)
        if universe.is_open(key, "reauthorization_required"):
            await asyncio.sleep(self._until_the_next_sweep())
        if universe.is_open(key, "reauthorization_required"):
            universe.found.append(f"late: {key} logged in, its incident is still open")
        elif any(_says_lost(message, loser.name) for message in universe.slack.channel):
            universe.found.append(f"late: {key} logged in, a message still says that it is lost")

    def _was_mailed(self, loser: Connection) -> bool:
        """Whether they were asked, since it was lost or since Makini's late word had said so."""
        since = min(loser.logins[-1][0], *self._joined(loser))
        return any(
            loser.email in mail.recipients and mail.at >= since for mail in self.universe.mail.taken
        )

    def _joined(self, loser: Connection) -> list[datetime]:
        """Since when it is in an open incident about its login."""
        rows = self.universe.ask(
            "SELECT m.joined_at FROM incident_connection m JOIN connection c"
            " ON c.id = m.connection_id WHERE c.makini_key = ? AND m.left_at IS NULL"
            " AND m.kind = 'reauthorization_required'", (loser.key,),
        )  # fmt: skip
        return [datetime.fromisoformat(row[0]) for row in rows] or [loser.logins[-1][0]]

    def _is_said_to_be_unknown(self, loser: Connection) -> bool:
        """Whether nobody of theirs has been confirmed as a contact, and operators were told.

        A customer whom a sweep found by itself has none but those that are proposed.
        """
        ask, address = self.universe.ask, (loser.email,)
        if ask("SELECT 1 FROM contact WHERE email = ? AND confirmed", address):
            return False
        return bool(
            ask(
                "SELECT 1 FROM incident_entry e JOIN incident_connection m"
                " ON m.incident_id = e.incident_id JOIN connection c ON c.id = m.connection_id"
                " WHERE c.email = ? AND e.at >= ? AND e.text LIKE 'Nobody to mail:%'",
                (loser.email, loser.logins[-1][0].isoformat(timespec="microseconds")),
            )
        )

    def _until_the_next_sweep(self) -> float:
        """How much longer it may take where Makini's status word lags; none where it doesn't."""
        lag = self.universe.personality.status_lag
        if lag == 0:
            return 0.0
        sweep = SWEEP_SECONDS * self.universe.pace
        return max(0.0, (lag if lag <= 600 else 0.0) + sweep + 120.0 - CLEARED_SECONDS)


def _is_spoken_well_of(connection: Connection, since: datetime, until: datetime) -> bool:
    """Whether all that Makini said of it meanwhile is that it works."""
    words = [connection.word(since)]
    words += [(lifecycle, sync) for at, lifecycle, sync in connection.words if since < at <= until]
    return all(lifecycle == "Active" and sync != "fail" for lifecycle, sync in words)


def _says_lost(message: Message, name: str) -> bool:
    """Whether an incident's own message says it of `name`. A summary or a digest says of several
    customers at once what was so when it was sent, and isn't changed."""
    text = message.text
    is_back = re.search(rf"{re.escape(name)}\b.* · recovered", text)
    if message.incident_id is None or name not in text or is_back:
        return False
    is_over = "*Resolved*" in text or "*Merged*" in text or "econnected" in text
    return "Reauthorization required" in text and not is_over
