"""Makini's webhooks on their way: lost, doubled, late, and sent until they are acknowledged."""

import asyncio
import json
from random import Random
from typing import TYPE_CHECKING

from tests.simulation.machine import seed_of
from tests.simulation.makini.webhooks import NOT_SYNCED, RETRY_FIRST, RETRY_FOR, SYNCED, Post
from tests.simulation.plan import Delivered

if TYPE_CHECKING:
    from tests.simulation.universe import Universe

SYNC_SECONDS = 900.0
"""From one synchronization of a connection to the next."""
DELAYS = (60.0, 600.0, 7_200.0)
A_DAY_LATE_FROM = 70_000
"""From this universe on a webhook may come a day late; those before live as they did."""


class Sending:
    """Sends them; what arrived is in `universe.delivered`, what did not in `universe.lost`."""

    def __init__(self, universe: "Universe") -> None:
        self._universe = universe
        is_newest = universe.plan.seed >= A_DAY_LATE_FROM
        self._delays = (*DELAYS, 86_400.0) if is_newest else DELAYS
        self.silent_about: set[str] = set()
        """Connections whose webhooks about records don't arrive."""

    async def live(self) -> None:
        """Compose what the model announces, and send it."""
        while True:
            await self._universe.truth.announced.wait()
            self._universe.truth.announced.clear()
            await asyncio.sleep(1.0)
            announced, self._universe.truth.announce = self._universe.truth.announce, []
            for connection, event, keys in self._universe.postman.gathered(announced):
                post = self._universe.postman.compose(
                    connection, event, keys, self._universe.truth.stamp(self._universe.now())
                )
                self._dispatch(post)

    def _dispatch(self, post: Post) -> None:
        if self._universe.people.unusual.holds(post):
            return
        chance = self._universe.rng.random() if self._universe.faulty("webhooks") else 1.0
        if chance < 0.06 or self._is_deaf(post):
            self._universe.lost.append(post)
            self._universe.say(f"webhook {post.number} {post.event} of {post.connection} lost")
            return
        delay = self._universe.rng.uniform(0.1, 3.0)
        if chance < 0.12:
            delay += self._universe.rng.choice(self._delays)
        self._universe.later(delay, self.deliver(post))
        if 0.12 <= chance < 0.2:
            self._universe.later(delay + self._universe.rng.uniform(0, 30), self.deliver(post))

    def _is_deaf(self, post: Post) -> bool:
        """Whether this Makini's webhooks about records don't arrive, for the time being."""
        is_deaf = "deaf" in self._universe.people.kinds or post.connection in self.silent_about
        return is_deaf and not self._universe.calm and bool(post.keys)

    async def synchronize(self) -> None:
        """Makini says how each synchronization of a connection ended."""
        rng = Random(seed_of(self._universe.plan.seed, "synchronizations"))
        while True:
            living = self._universe.truth.living()
            await asyncio.sleep(
                rng.expovariate(max(1, len(living)) / (SYNC_SECONDS * self._universe.pace))
            )
            if living := self._universe.truth.living():
                connection = rng.choice(living)
                works = connection.login_ok and connection.online and connection.active
                works |= self._universe.personality.sync_lies
                self._universe.truth.notify((connection.key, SYNCED if works else NOT_SYNCED, []))

    async def deliver(self, post: Post) -> None:
        """Post it until it is answered with 200."""
        waited, pause = 0.0, RETRY_FIRST
        while waited < RETRY_FOR:
            answer = await self._universe.request("POST", post.path, post.headers, post.body)
            status = answer.status if answer else 0
            self._universe.say(
                f"webhook {post.number} {post.event} {post.connection} {post.keys} → {status}"
            )
            if answer is not None and answer.status == 200:
                said = json.loads(answer.body)
                self._universe.delivered.append(
                    Delivered(post, self._universe.now(), said["status"], said["id"])
                )
                return
            await asyncio.sleep(pause)
            waited, pause = waited + pause, min(pause * 2, 3600.0)
