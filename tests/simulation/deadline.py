"""A customer who is asked to log in and doesn't, until the deadline of seven days is over.

And the second act: days later the login is renewed after all, by a link that was sent again or by
an old password that works again. Only in worlds that last for so long.
"""

import asyncio
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING

from tests.simulation.makini.connection import Connection
from tests.simulation.rehearsal import CLEARED_SECONDS, SWEEP_SECONDS

if TYPE_CHECKING:
    from tests.simulation.flow_runs import SimRun
    from tests.simulation.universe import Universe

DEADLINE = timedelta(days=7)
MAILS = 4
"""The first, and three reminders."""
APART = timedelta(hours=15)
"""Two mails about one lost login are on different days."""
KIND = "reauthorization_required"


class Deadline:
    """One customer, and what must be so when the time is over."""

    def __init__(self, universe: "Universe", rng: Random) -> None:
        self._universe = universe
        self._rng = rng
        self.is_over = False

    async def live(self) -> None:
        """All of it; what is broken is in `universe.found`."""
        universe, rng = self._universe, self._rng
        await asyncio.sleep(rng.uniform(600, 5400) * universe.plan.pace)
        late = rng.choice([each for each in universe.truth.living() if each.login_ok])
        since = universe.now()
        universe.say(f"deadline: {late.key} loses its login, and nobody logs in in time")
        universe.truth.lose_login(late, since)
        await asyncio.sleep((DEADLINE + timedelta(hours=rng.uniform(4, 14))).total_seconds())
        universe.say(f"deadline: it is over for {late.key}")
        incident_id = self._incident_of(late)
        if incident_id is None:
            universe.found.append(f"deadline: no incident is open about {late.key}")
            return
        universe.found += [f"deadline: {wrong}" for wrong in self._ended(late, incident_id, since)]
        if rng.random() < 0.5:
            universe.say(f"deadline: the old password of {late.key} works again")
            universe.truth.restore_login(late, universe.now())
        elif not await self._log_in_late(late, incident_id):
            return
        await asyncio.sleep(CLEARED_SECONDS + 2 * SWEEP_SECONDS * universe.pace + 120.0)
        key = late.successor or late.key
        if universe.is_open(key, KIND):
            universe.found.append(f"deadline: {key} works again, its incident is still open")
        waiting = [run for run in self._runs(incident_id) if run.state_word == "suspended"]
        if waiting:
            universe.found.append(f"deadline: a run still waits for {late.key}")
        self.is_over = True
        universe.acted.add("deadline")

    def _incident_of(self, connection: Connection) -> str | None:
        rows = self._universe.ask(
            "SELECT m.incident_id FROM incident_connection m JOIN connection c"
            " ON c.id = m.connection_id WHERE c.makini_key = ? AND m.kind = ?"
            " AND m.left_at IS NULL", (connection.key, KIND),
        )  # fmt: skip
        return rows[0][0] if rows else None

    def _runs(self, incident_id: str) -> list["SimRun"]:
        runs = self._universe.prefect.runs.values()
        return [run for run in runs if run.parameters.get("incident") == incident_id]

    def _ended(self, late: Connection, incident_id: str, since: datetime) -> Iterator[str]:
        universe = self._universe
        runs = self._runs(incident_id)
        if not any(run.state_word == "failed" and "in time" in run.message for run in runs):
            yield f"no run says that the time is over for {late.key}"
        shown = [message.text for message in universe.slack.messages.values()]
        if not any("Not reconnected in time" in text and late.name in text for text in shown):
            yield f"nobody was told that the time is over for {late.key}"
        mails = [
            mail.at
            for mail in universe.mail.taken
            if late.email in mail.recipients and mail.at >= since
        ]
        if not 1 <= len(mails) <= MAILS:
            yield f"{late.email} was mailed {len(mails)} times in seven days"
        for first, second in pairwise(mails):
            if second - first < APART:
                yield f"{late.email} was mailed twice from {first:%d %H:%M} to {second:%H:%M}"
        if mails and mails[-1] > since + DEADLINE + timedelta(hours=1):
            yield f"{late.email} was mailed after the deadline"

    async def _log_in_late(self, late: Connection, incident_id: str) -> bool:
        """By the link that Slack shows by then, or else by one that is sent again."""
        universe = self._universe
        customers, operators = universe.people.customers, universe.people.operators
        if await customers.log_in_to(late):
            return True
        if not await operators.send_again(incident_id):
            universe.found.append(f"deadline: the link of {late.key} can't be sent again")
            return False
        await asyncio.sleep(120.0)
        if not await customers.log_in_to(late):
            universe.found.append(f"deadline: {late.key} can't log in by the link sent again")
            return False
        return True
