"""The model of a fallback channel: it takes what Apprise is to hand over, and remembers it."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from random import Random
from typing import Any

URL = "json://pager.sim/"
OWN = "Linekeeper"
"""The title of what is about no incident."""


class Pager:
    """What was said in the fallback channel, and when."""

    def __init__(self, now: Callable[[], datetime], rng: Random) -> None:
        self._now = now
        self._rng = rng
        self.said: list[tuple[datetime, str]] = []
        self.bodies: list[str] = []

    def client(self) -> "Client":
        """What stands in the place of `apprise.Apprise`."""
        return Client(self)

    async def take(self, title: str, body: str) -> None:
        """Something is said."""
        await asyncio.sleep(self._rng.uniform(0.01, 0.3))
        self.said.append((self._now(), title))
        self.bodies.append(body)


class Client:
    """Hands over to the one channel there is."""

    def __init__(self, pager: Pager) -> None:
        self._pager = pager

    def add(self, _: str) -> bool:
        """Any URL can be read."""
        return True

    async def async_notify(self, *, title: str, body: str, **_: Any) -> bool:
        """It takes everything."""
        await self._pager.take(title, body)
        return True
