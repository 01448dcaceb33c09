"""What the forms of runs that wait for a login say: it follows what is so, within the hour."""

import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from tests.simulation.flow_runs import SimRun

if TYPE_CHECKING:
    from tests.simulation.universe import Universe

FOLLOWS_WITHIN = timedelta(hours=1)
SWEEP = timedelta(seconds=300)
SWEEPS = 2.5
"""Each sweep renews them; in a slow life two of them are further apart than an hour."""
LOOK_EVERY = timedelta(minutes=5)


class Forms:
    """Looks at every form that somebody could open, again and again."""

    def __init__(self, universe: "Universe") -> None:
        self._universe = universe
        self._within = max(FOLLOWS_WITHIN, SWEEPS * SWEEP * universe.pace)
        self._wrong: dict[tuple[str, str], datetime] = {}
        """Since when a form says what isn't so, though a sweep could have renewed it."""
        self._looked_at = universe.begins

    def look(self) -> None:
        """Note which forms are wrong by now, and which have been for too long."""
        universe, now = self._universe, self._universe.now()
        if now - self._looked_at < LOOK_EVERY:
            return
        self._looked_at = now
        wrong: dict[tuple[str, str], datetime] = {}
        if not (universe.prefect.down or universe.workers_away):
            for run in universe.prefect.runs.values():
                if run.deployment == "reconnect" and run.state_word == "suspended":
                    for fault in self._faults(run):
                        wrong[str(run.id), fault] = self._wrong.get((str(run.id), fault), now)
        for (identity, fault), since in wrong.items():
            if now - since > self._within and since < now:
                wrong[identity, fault] = now  # said once, until it lasts again
                universe.found.append(f"form: since {since:%H:%M:%S} it {fault}")
        self._wrong = wrong

    def _faults(self, run: SimRun) -> Iterator[str]:
        """What is wrong with what a form says of the connections of its incident."""
        said = run.texts.get(f"suspended-{run.waits_for}-description")
        words = "" if said is None else str(json.loads(said))
        truth = self._universe.truth
        rows = self._universe.ask(
            "SELECT c.name, c.makini_key, max(m.left_at IS NULL) FROM incident_connection m"
            " JOIN connection c ON c.id = m.connection_id JOIN incident i ON i.id = m.incident_id"
            " WHERE m.incident_id = ? AND i.status != 'resolved' GROUP BY c.id",
            (str(run.parameters["incident"]),),
        )
        waiting = [name for name, _, stays in rows if stays]
        for name, key, stays in rows:
            is_named = re.search(rf"\b{re.escape(name)}\b", words) is not None
            connection = truth.connections.get(key)
            is_lost = connection is not None and not (connection.login_ok or connection.deleted)
            if stays and is_lost and not is_named and len(waiting) <= 10:
                yield f"does not name {name}, whose login is lost: {words[:80]!r}"
            if not stays and is_named and name not in waiting:
                yield f"names {name}, which is over: {words[:80]!r}"
