"""Trouble that is seldom: keys are rotated, workers are away, the machine's clock is a day off."""

import asyncio
from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any

from tests.simulation.loop import Host

if TYPE_CHECKING:
    from tests.simulation.universe import Universe

RARE_KINDS = ("keys", "workers", "day")
RARE = 0.1
NEW_KEY = "YSBuZXcga2V5LCBhbHNvIDMyIGJ5dGVzIGxvbmchISE="
"""Of a throw-away database, too."""
DAY = timedelta(days=1)
RECEIVER_BEAT_SECONDS = 180.0
"""What is missing of it is an outage of ours, by minutes."""
LONGEST_PAUSE = timedelta(minutes=5)
"""Of messages to Prefect, while it is away."""
PARTS = ("receiver", "consumer", "second consumer")


class Rare:
    """What operators and their machines do once in a while."""

    def __init__(self, universe: "Universe", rng: Random) -> None:
        self._universe = universe
        self._rng = rng
        self.is_rotated = False
        """Whether `rotate-keys` has said that the old key may go, and it is gone."""
        self.unheard: list[tuple[datetime, datetime]] = []
        """From when until when the clock was ahead for less time than lies between two beats of a
        receiver here: in production it says every ten seconds that it is there."""

    def start(self, kinds: set[str]) -> Iterator[Any]:
        """One task for each kind that this universe has."""
        if "keys" in kinds:
            yield self._keys()
        if "workers" in kinds:
            yield self._workers()
        if "day" in kinds:
            yield self._day()

    def put_off(self, until: datetime) -> bool:
        """Whether a clock that nobody heard of has put off until then what was tried meanwhile."""
        tried = until - DAY
        return any(since <= tried <= end + LONGEST_PAUSE for since, end in self.unheard)

    def end(self) -> None:
        """The workers are there, and the clock is right."""
        self._universe.workers_away = False
        self._set_clock(timedelta())

    # --- keys

    async def _keys(self) -> None:
        """A new key is put in front, every part restarted, all encrypted anew; the old one goes."""
        universe, rng = self._universe, self._rng
        await asyncio.sleep(rng.uniform(300, 1200))
        universe.say("keys: a new one stands in front")
        universe.use_keys([NEW_KEY, *universe.keys])
        await self._restart(forgets=rng.random() < 0.3)
        while not await self._rotate():
            if universe.calm:
                return
            await self._restart(forgets=False)
        universe.say("keys: the old one is taken away")
        universe.use_keys([NEW_KEY])
        self.is_rotated = True
        await self._restart(forgets=False)

    async def _restart(self, *, forgets: bool) -> None:
        """Restart every part, or all but the receiver."""
        for name in PARTS[1:] if forgets else PARTS:
            self._universe.stop(name)
            await asyncio.sleep(self._rng.uniform(1, 20))
        await asyncio.sleep(self._rng.uniform(30, 200))

    async def _rotate(self) -> bool:
        """`linekeeper rotate-keys`; whether it says that the other keys may go."""
        universe = self._universe
        done: list[Any] = []

        async def main(_: Host) -> None:
            from linekeeper.cli.rotate_keys import LOOK_AGAIN_SECONDS
            from linekeeper.runtime import Runtime
            from linekeeper.store.rotate import rotate_keys

            async with Runtime.open() as rt:
                done.append(await rotate_keys(rt.store, look_again_after=LOOK_AGAIN_SECONDS))

        host, task = universe.start("rotate-keys", main)
        if self._rng.random() < 0.3:
            await asyncio.sleep(self._rng.uniform(0, 2))
            if not task.done():
                universe.crash(host)
                return False
        await asyncio.wait([task])
        host.end()
        if error := task.exception():
            universe.say(f"rotate-keys: {type(error).__name__}: {error}")
            return False
        rotation = done[0]
        universe.say(
            f"rotate-keys: {rotation.changed} of {rotation.seen} anew, others "
            f"{len(rotation.writers)}, written since {len(rotation.written_since)}, unreadable "
            f"{len(rotation.unreadable)}"
        )
        if rotation.unreadable:
            universe.found.append(f"keys: no key opens {rotation.unreadable[0]}")
        return bool(rotation.is_complete)

    # --- workers

    async def _workers(self) -> None:
        """No worker takes runs for a while; then they take all that are late at once."""
        universe, rng = self._universe, self._rng
        while True:
            await asyncio.sleep(rng.expovariate(1 / 1200.0))
            if universe.calm:
                return
            universe.say("trouble: no worker takes runs")
            universe.workers_away = True
            await asyncio.sleep(rng.choice((400.0, 900.0, 1500.0)))
            universe.workers_away = False
            universe.say(f"a worker takes runs again: {len(universe.prefect.queue)} at once")

    # --- the clock

    async def _day(self) -> None:
        """The machine believes for some minutes that it is a day earlier or later."""
        universe, rng = self._universe, self._rng
        while True:
            await asyncio.sleep(rng.expovariate(1 / 1500.0))
            if universe.calm:
                return
            await self.step_clock()

    async def step_clock(self, skew: timedelta | None = None, why: str = "") -> None:
        """It is a day off, or by `skew`, and right again some minutes later."""
        universe, rng = self._universe, self._rng
        self._set_clock(rng.choice((DAY, -DAY)) if skew is None else skew)
        said = f"trouble: the machine's clock is off by {universe.machine_skew}"
        universe.say(f"{said}; {why}" if why else said)
        since, seconds = universe.now(), rng.choice((45.0, 240.0, 700.0))
        if universe.machine_skew > timedelta() and seconds < RECEIVER_BEAT_SECONDS:
            self.unheard.append((since, since + timedelta(seconds=seconds)))
        await asyncio.sleep(seconds)
        self._set_clock(timedelta())
        universe.say("the machine's clock is right again")

    def _set_clock(self, skew: timedelta) -> None:
        self._universe.machine_skew = skew
        for host in self._universe.hosts:
            host.skew = skew
