"""What is unusual: webhooks that come when all has changed again, a peer that is away for long,
operators who mute, few messages an hour, a webhook that names ten thousand records.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from random import Random
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from linekeeper.clock import utcnow
from linekeeper.config import AlertPolicy
from linekeeper.settings import Settings
from linekeeper.store.configuration import seed
from tests.simulation.loop import Host
from tests.simulation.makini.webhooks import Post
from tests.simulation.pager import URL

if TYPE_CHECKING:
    from tests.simulation.universe import Universe

UNUSUAL_KINDS = ("late", "away", "mutes", "caps")
"""Beside these there are `flood`, which is drawn from 70000 on, as reading so many records takes
long, and `thrift`."""
UNUSUAL = 0.15
LATE = 0.25
"""The share of webhooks that are held back until it is calm."""
CAP = 4
FEW_CALLS = 6
FLOOD = 10_000


class Unusual:
    """Each kind is a task."""

    def __init__(self, universe: "Universe", rng: Random) -> None:
        self._universe = universe
        self._rng = rng
        self._held: list[Post] = []
        self.muted: list[tuple[str, datetime, float]] = []
        """Incident, since when, and for how many hours; none end a mute."""
        self.unwatched: list[tuple[datetime, datetime]] = []
        """From when until when Prefect was away, so that nothing was swept."""

    def start(self, kinds: set[str]) -> Iterator[Any]:
        """One task for each kind that this universe has."""
        if "late" in kinds:
            yield self._late()
        if "away" in kinds:
            yield self._away(kinds)
        if "mutes" in kinds:
            yield self._mutes()
        if "flood" in kinds:
            yield self._flood()
        if "thrift" in kinds:
            yield self._thrift()
        if "caps" in kinds:
            prefect = self._universe.prefect
            alerts = (prefect.blocks.alerts or AlertPolicy()).model_copy(
                update={"cap_per_hour": CAP, "elsewhere": (SecretStr(URL),)}
            )
            prefect.blocks = replace(prefect.blocks, alerts=alerts)

    def holds(self, post: Post) -> bool:
        """Whether Makini keeps this webhook to itself until it is calm, and then sends it."""
        universe = self._universe
        if "late" not in universe.people.kinds or not universe.faulty("late") or not post.keys:
            return False
        if self._rng.random() >= LATE:
            return False
        self._held.append(post)
        universe.say(f"webhook {post.number} {post.event} of {post.connection} is held back")
        return True

    async def _late(self) -> None:
        """In a long life that is a day later: its records have changed again, or are gone."""
        universe = self._universe
        while not universe.calm:
            await asyncio.sleep(60.0)
        await asyncio.sleep(self._rng.uniform(60, 600))
        self._rng.shuffle(self._held)
        for post in self._held:
            universe.spawn(universe.sending.deliver(post))
            await asyncio.sleep(self._rng.uniform(0, 20))

    async def _away(self, kinds: set[str]) -> None:
        """One peer is down for the whole lull; with `--lull 24` for a day."""
        universe = self._universe
        peers = {
            "product": universe.product, "slack": universe.slack, "mail": universe.mail,
            "prefect": universe.prefect,
        }  # fmt: skip
        name = self._rng.choice(sorted(set(peers) - kinds) or ["mail"])
        while not universe.is_lull:
            if universe.calm:
                return
            await asyncio.sleep(30.0)
        universe.say(f"trouble: {name} is away for the whole lull")
        kinds.add(name)
        peer: Any = peers[name]
        peer.down = True
        since = universe.now()
        while universe.is_lull:
            await asyncio.sleep(30.0)
        peer.down = False
        if name == "prefect":
            self.unwatched.append((since, universe.now()))
        universe.say(f"{name} is back after the lull")

    async def _mutes(self) -> None:
        """Somebody mutes an incident for an hour, or ends that again."""
        universe = self._universe
        while True:
            await asyncio.sleep(self._rng.expovariate(1 / 600.0))
            if universe.calm:
                return
            opened = universe.ask(
                "SELECT id FROM incident WHERE status != 'resolved' AND kind NOT LIKE ?"
                " ORDER BY opened_at, id", ("webhook%",),
            )  # fmt: skip
            if opened:
                await self._mute(self._rng.choice(opened)[0], self._rng.choice((1.0, 1.0, 0.0)))

    async def _mute(self, incident_id: str, hours: float) -> None:
        """`linekeeper mute`, in a process of its own."""
        universe = self._universe

        async def main(_: Host) -> None:
            from linekeeper.incidents.operate import NoIncident, mute
            from linekeeper.runtime import Runtime

            async with Runtime.open() as rt:
                try:
                    said = await mute(rt.store, incident_id, hours, by="ann", now=utcnow())
                    self.muted.append((incident_id, universe.now(), hours))
                except NoIncident:
                    said = "it is over by now"
                universe.say(f"mute: {incident_id}: {said}")

        host, task = universe.start("mute", main)
        await asyncio.wait([task])
        host.end()
        if not task.cancelled() and (error := task.exception()):
            universe.say(f"mute: {type(error).__name__}: {error}")

    async def _thrift(self) -> None:
        """Few calls a minute are to be made, until it is calm."""
        few = {"per_minute": 2 * FEW_CALLS, "share": 0.5}
        app = seed(Settings()).apps["default"].model_copy(update=few)
        self._universe.people.operators.be_thrifty(app)

    async def _flood(self) -> None:
        """One webhook names ten thousand records, most of which the source doesn't have."""
        universe, rng = self._universe, self._rng
        await asyncio.sleep(rng.uniform(600, 1500))
        connection = rng.choice([each for each in universe.truth.living() if each.offers])
        entity = rng.choice(connection.offers)
        known = list(connection.records[entity])
        keys = [*known, *(f"{rng.getrandbits(52):016d}" for _ in range(FLOOD - len(known)))]
        universe.say(f"trouble: a webhook of {connection.key} names {len(keys)} records")
        event = universe.truth.event_of(entity, "updated")
        universe.truth.notify((connection.key, event, keys))
