"""What goes wrong at Makini and behind it: logins, systems, connections, tokens, its list."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.simulation.universe import Universe


class AtMakini:
    """`is_on` says whether that kind of trouble may happen now, `pause` waits about so long."""

    def __init__(
        self,
        universe: "Universe",
        rng: Random,
        is_on: Callable[[str], bool],
        pause: Callable[[float], Awaitable[None]],
    ) -> None:
        self.universe = universe
        self.rng = rng
        self._is_on = is_on
        self._pause = pause
        self.cut_list: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] | None = None
        self.removed: set[str] = set()
        """The keys of connections that were disconnected at Makini."""

    async def logins(self) -> None:
        """Logins are lost; some work again with the old password."""
        truth = self.universe.truth
        while True:
            await self._pause(1500.0)
            if not self._is_on("logins"):
                continue
            connection = self.rng.choice(truth.living())
            if connection.login_ok:
                self.universe.say(f"trouble: {connection.key} loses its login")
                truth.lose_login(connection, self.universe.now())
            elif self.rng.random() < 0.4:
                self.universe.say(f"{connection.key}: the old password works again")
                truth.restore_login(connection, self.universe.now())

    async def anew(self) -> None:
        """A customer disconnects at Makini, and connects the same system anew a while later."""
        truth = self.universe.truth
        while True:
            await self._pause(1800.0)
            if not self._is_on("anew"):
                continue
            connection = self.rng.choice(truth.living())
            if connection.key in self.removed or not connection.login_ok:
                continue
            self.removed.add(connection.key)
            self.universe.say(f"trouble: {connection.key} is disconnected at Makini")
            truth.delete(connection, self.universe.now())
            await asyncio.sleep(self.rng.choice((30.0, 400.0, 1200.0)))
            target = truth.connect_anew(connection, self.universe.now())
            self.universe.say(f"trouble: it is connected anew as {target.key}")

    async def systems(self) -> None:
        """A system goes off line, or its connection becomes inactive, and back."""
        truth = self.universe.truth
        while True:
            await self._pause(1200.0)
            if not self._is_on("systems"):
                continue
            connection = self.rng.choice(truth.living())
            now = self.universe.now()
            if self.rng.random() < 0.7:
                truth.set_online(connection, not connection.online, now)
                self.universe.say(f"trouble: {connection.key} online={connection.online}")
            else:
                truth.set_active(connection, not connection.active, now)
                self.universe.say(f"trouble: {connection.key} active={connection.active}")

    def mutilate(self, listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The list as Makini shows it in an episode of its own."""
        return self.cut_list(listed) if self.cut_list is not None else listed

    async def lists(self) -> None:
        """The list of connections is cut, empty or doubled for a while."""
        while True:
            await self._pause(1500.0)
            if self.universe.calm:
                return
            name, self.cut_list = self.rng.choice((
                ("empty", lambda _: []),
                ("truncated", lambda listed: listed[: len(listed) // 2]),
                ("duplicated", lambda listed: listed + listed),
            ))  # fmt: skip
            self.universe.say(f"trouble: the list is {name}")
            await asyncio.sleep(self.rng.choice((100.0, 1300.0)))
            self.cut_list = None

    async def tokens(self) -> None:
        """Makini ends an access token before its time; the refresh token lives."""
        while True:
            await self._pause(900.0)
            if self._is_on("tokens") or self._is_on("pairs"):
                connection = self.rng.choice(self.universe.truth.living())
                self.universe.say(f"trouble: the access token of {connection.key} ends early")
                self.universe.truth.end_tokens(connection, self.universe.now())
