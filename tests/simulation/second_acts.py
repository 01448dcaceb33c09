"""Second acts: what seldom comes together by chance, and is arranged from some universe on.

An incident that is snoozed is resolved and opens again; a connection is made anew while its
backfill runs; a peer is away while keys are rotated; the clock steps a day back under a lease.
What comes right after something was over is in `later_acts.py`.
"""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING, Any

from tests.simulation.arranged import (
    ACTS_OF,
    ARRANGED,
    ARRANGED_FROM,
    COMES_WITH,
    LATEST,
    LATEST_FROM,
    NEWEST,
    NEWEST_FROM,
)
from tests.simulation.doubted import DOUBTED, doubts
from tests.simulation.later_acts import (
    AFTERMATH,
    LATER_ACTS,
    LATER_ACTS_FROM,
    RELAPSE,
    aftermaths,
    relapses,
)
from tests.simulation.machine import seed_of

if TYPE_CHECKING:
    from tests.simulation.makini.connection import Connection
    from tests.simulation.universe import Universe

SECOND_ACTS_FROM = 16_000
SECOND_ACTS = ("snoozed", "replaced", "dark keys", "leased", "thrift")
ACTS = (
    "snoozed", "replaced", "dark keys", "leased", "ending", "deadline",
    *LATER_ACTS, *ARRANGED, *NEWEST, *LATEST,
)  # fmt: skip
"""Those of which it is counted whether they came about."""
CHANCE = 0.2
IN_THE_SOUTH = (
    datetime(2026, 10, 3, 15, 20, tzinfo=UTC),  # summer time begins in Sydney at four
    datetime(2026, 4, 4, 15, 20, tzinfo=UTC),  # and ends
)
"""When such a universe may begin, too."""
LOST = "reauthorization_required"
LOOKS_EVERY = 5.0


class SecondActs:
    """Each is a task of its own."""

    def __init__(self, universe: "Universe", rng: Random) -> None:
        self._universe = universe
        self._rng = rng

    @staticmethod
    def drawn(seed: int, rng: Random) -> set[str]:
        """Those that a seed has; what one of them goes with comes along."""
        kinds = {kind for kind in SECOND_ACTS if rng.random() < CHANCE}
        also = Random(seed_of(seed, "later acts"))  # the others live as they did before
        later = {kind for kind in LATER_ACTS if also.random() < CHANCE}
        if seed >= LATER_ACTS_FROM:
            kinds |= later
        arranged = Random(seed_of(seed, "arranged acts"))
        if seed >= ARRANGED_FROM:
            kinds |= {kind for kind in ARRANGED if arranged.random() < CHANCE}
        if seed >= NEWEST_FROM:
            kinds |= {kind for kind in NEWEST if arranged.random() < CHANCE}
        if seed >= LATEST_FROM:
            kinds |= {kind for kind in LATEST if arranged.random() < CHANCE}
        return kinds if seed >= SECOND_ACTS_FROM else set()

    def start(self, kinds: set[str]) -> Iterator[Any]:
        """One task for each act; keys, customers who log in and clocks are of other kinds."""
        if "snoozed" in kinds:
            yield self._snoozed()
        if "replaced" in kinds:
            kinds.add("logins")
            yield self._replaced()
        if "dark keys" in kinds:
            kinds.add("keys")
            yield self._dark_keys()
        if "leased" in kinds:
            kinds.add("day")
            yield self._leased()
        for kind, arranged in ACTS_OF.items():
            if kind in kinds:
                kinds |= COMES_WITH.get(kind, set())
                yield arranged(
                    self._universe, self, Random(seed_of(self._universe.plan.seed, kind))
                )
        for kind, act in ((RELAPSE, relapses), (AFTERMATH, aftermaths), (DOUBTED, doubts)):
            if kind in kinds:
                kinds.add("logins")
                yield act(self._universe, self, Random(seed_of(self._universe.plan.seed, kind)))

    async def until(self, is_so: Any, *, within: float, every: float = LOOKS_EVERY) -> bool:
        """Wait until `is_so`; False where it isn't in time, or it is calm."""
        for _ in range(int(within / every)):
            if self._universe.calm:
                return False
            if is_so():
                return True
            await asyncio.sleep(every)
        return False

    def one(self) -> "Connection | None":
        """A connection that is well."""
        people = self._universe.people
        fine = [
            each for each in self._universe.truth.living()
            if each.login_ok and each.online and each.active and not people.is_sick(each)
        ]  # fmt: skip
        return self._rng.choice(fine) if fine else None

    async def _snoozed(self) -> None:
        """Somebody snoozes an incident for an hour; it is over, and within that hour it is back."""
        universe, rng, truth = self._universe, self._rng, self._universe.truth
        await asyncio.sleep(rng.uniform(200.0, 700.0))
        connection = self.one()
        if connection is None or not universe.faulty("snoozed"):
            return
        key = connection.key
        universe.say(f"snoozed: {key} loses its login")
        truth.lose_login(connection, universe.now())
        if not await self.until(lambda: universe.is_open(key, LOST), within=1500.0):
            return
        [(incident_id, *_)] = universe.ask(
            "SELECT m.incident_id FROM incident_connection m JOIN connection c"
            " ON c.id = m.connection_id WHERE c.makini_key = ? AND m.kind = ?"
            " AND m.left_at IS NULL", (key, LOST),
        )  # fmt: skip
        is_taken = await universe.people.operators.snooze(incident_id)
        universe.say(f"snoozed: {incident_id}: {is_taken}")
        await asyncio.sleep(rng.uniform(20.0, 400.0))
        for works in (True, False, True):
            if universe.calm or connection.deleted:
                return
            change = truth.restore_login if works else truth.lose_login
            universe.say(f"snoozed: the login of {key} {'works' if works else 'is lost'} again")
            change(connection, universe.now())
            if not works:
                universe.acted.add("snoozed")
            await asyncio.sleep(rng.uniform(60.0, 900.0))
            if not works and rng.random() < 0.3:
                return  # and stays so

    async def _replaced(self) -> None:
        """While the run of a case reads what was missed, its connection is made anew.

        A login is lost for it, and works again a while after that was noticed.
        """
        universe, rng, truth = self._universe, self._rng, self._universe.truth
        await asyncio.sleep(rng.uniform(200.0, 900.0))
        while not universe.calm and "replaced" not in universe.acted:
            connection = self.one()
            if connection is not None and universe.faulty("replaced"):
                universe.say(f"replaced: {connection.key} loses its login")
                truth.lose_login(connection, universe.now())
                key = connection.key
                if await self.until(lambda key=key: universe.is_open(key, LOST), within=1500.0):
                    await asyncio.sleep(rng.uniform(20.0, 300.0))
                if not (connection.deleted or connection.login_ok):
                    universe.say(f"replaced: the login of {key} works again")
                    truth.restore_login(connection, universe.now())
            if await self.until(self._backfilling, within=900.0, every=0.5):
                await self._made_anew()

    async def _made_anew(self) -> None:
        universe, rng, truth = self._universe, self._rng, self._universe.truth
        await asyncio.sleep(rng.choice((0.0, 0.2, 1.0)))
        found = [truth.connections.get(key) for key in self._backfilling()]
        living = [each for each in found if each and each.login_ok and not each.deleted]
        if not living:
            return
        connection = rng.choice(living)
        universe.people.removed.add(connection.key)
        universe.say(f"replaced: {connection.key} is disconnected in its backfill")
        truth.delete(connection, universe.now())
        await asyncio.sleep(rng.choice((1.0, 30.0, 400.0)))
        target = truth.connect_anew(connection, universe.now())
        universe.say(f"replaced: it is connected anew as {target.key}")
        universe.acted.add("replaced")

    def _backfilling(self) -> list[str]:
        """The connections of the cases whose runs are at work, and whose logins are back."""
        running = [
            str(run.parameters.get("incident")) for run in self._universe.prefect.runs.values()
            if run.deployment == "reconnect" and run.state_word in ("pending", "running")
        ]  # fmt: skip
        return [
            row[0]
            for incident_id in running
            for row in self._universe.ask(
                "SELECT c.makini_key FROM incident_connection m JOIN connection c"
                " ON c.id = m.connection_id WHERE m.incident_id = ?", (incident_id,),
            )
            if (known := self._universe.truth.connections.get(row[0])) and known.login_ok
        ]  # fmt: skip

    async def _dark_keys(self) -> None:
        """A peer is away from when a new key stands in front until the old one is taken away."""
        universe = self._universe
        peers: dict[str, Any] = {
            "the product": universe.product, "Prefect": universe.prefect,
            "Slack": universe.slack, "the mail server": universe.mail,
        }  # fmt: skip
        name = self._rng.choice(sorted(peers))
        kind = {"the product": "product", "Prefect": "prefect", "Slack": "slack"}.get(name, "mail")
        if not await self.until(lambda: len(universe.keys) > 1, within=1e6):
            return
        universe.say(f"trouble: {name} is down while keys are rotated")
        universe.people.kinds.add(kind)
        peers[name].down = True
        universe.acted.add("dark keys")
        since = universe.now()
        await self.until(lambda: len(universe.keys) == 1, within=2400.0)
        peers[name].down = False
        if name == "Prefect":
            universe.people.unusual.unwatched.append((since, universe.now()))
        universe.say(f"{name} is back")

    async def _leased(self) -> None:
        """The machine's clock steps a day back, or ahead, while somebody holds a lease."""
        universe, rng = self._universe, self._rng
        await asyncio.sleep(rng.uniform(200.0, 900.0))
        if await self.until(universe.leases.held, within=1e6):
            await asyncio.sleep(rng.choice((0.0, 0.05, 0.5)))
            held = ", ".join(universe.leases.held()) or "none any more"
            universe.acted.add("leased")
            await universe.people.rare.step_clock(why=f"leases held: {held}")
