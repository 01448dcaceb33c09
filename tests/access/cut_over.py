"""A product that lives on Makini, and hands its connections over while it goes on calling."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

import sandbox

READ = "/api/eam/assets"


@dataclass(slots=True)
class Product:
    """Calls Makini for one connection after the other, without an end.

    `pairs` are its own, which it renews at times, as it always has; for `handed` connections it
    asks Linekeeper for a token, keeps it, and asks again where Makini refuses it.
    """

    makini: sandbox.Served
    linekeeper: httpx.AsyncClient
    key: dict[str, str]
    pairs: dict[str, Any] = field(default_factory=dict)
    handed: set[str] = field(default_factory=set)
    still: set[str] = field(default_factory=set)
    """Whose pairs are being handed over: they are not renewed meanwhile."""
    kept: dict[str, str] = field(default_factory=dict)
    made: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    dead: list[str] = field(default_factory=list)
    """Own tokens that somebody else had ended."""

    def log_in(self) -> None:
        """A pair for every connection, as the product has had them from its customers."""
        for connection in self.makini.world.connections.values():
            self.pairs[connection.key] = self.makini.world.tokens.pair(connection)

    @asynccontextmanager
    async def calling(self) -> AsyncIterator[None]:
        """The product at work."""
        async with httpx.AsyncClient(base_url=self.makini.url, timeout=60) as http:
            work = [asyncio.create_task(self._work(http, n)) for n in range(2)]
            try:
                yield
            finally:
                for task in work:
                    task.cancel()
                ended = await asyncio.gather(*work, return_exceptions=True)
        broken = [each for each in ended if not isinstance(each, asyncio.CancelledError)]
        assert not broken, broken

    async def called_all(self) -> None:
        """Wait until every connection was called once more."""
        before = dict(self.made)
        async with asyncio.timeout(300):
            while any(self.made[key] <= before.get(key, 0) for key in self.pairs):
                await asyncio.sleep(0.05)

    async def _work(self, http: httpx.AsyncClient, number: int) -> None:
        chance = random.Random(number)
        while True:
            for key in chance.sample(sorted(self.pairs), len(self.pairs)):
                await self._call(http, key)
                if chance.random() < 0.05:
                    self._renew(key)

    def _renew(self, key: str) -> None:
        """What the product does with its own pairs, at any time."""
        if key in self.handed or key in self.still:
            return
        pair = self.makini.world.tokens.refresh(self.pairs[key].refresh)
        if pair is None:
            self.dead.append(key)
            return
        self.pairs[key] = pair

    async def _call(self, http: httpx.AsyncClient, key: str) -> None:
        status = 0
        for _ in range(3):
            was = self.pairs[key].access
            token = await self._token(key)
            answer = await http.get(
                READ, params={"per_page": 1}, headers={"Authorization": f"Bearer {token}"}
            )
            status = answer.status_code
            if status != 401:
                break
            if key not in self.handed and was == self.pairs[key].access == token:
                self.dead.append(key)
            self.kept.pop(key, None)
        if status != 200:
            self.failed.append(f"{key}: {status}")
        self.made[key] += 1

    async def _token(self, key: str) -> str:
        if key not in self.handed:
            return str(self.pairs[key].access)
        if key not in self.kept:
            path = f"/api/connections/{key}/token"
            answer = await self.linekeeper.get(path, headers=self.key)
            if answer.status_code != 200:
                return f"none: {answer.status_code} {answer.text}"
            self.kept[key] = answer.json()["access_token"]
        return self.kept[key]
