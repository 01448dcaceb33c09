"""The customers of a universe: they log in by the links that Linekeeper made for them.

Some log in twice, some to another system of theirs than the one asked for, and some lose the login
again at once.
"""

import asyncio
import re
from datetime import datetime
from html import unescape
from random import Random
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlencode, urlsplit

from tests.simulation.machine import seed_of
from tests.simulation.makini.connection import Connection

if TYPE_CHECKING:
    from tests.simulation.universe import Universe

TWICE = 0.2
DENIES = 0.3
STRAYS_SHARE = 0.15
"""The share of logins to another system than the one asked for."""
LOST_AGAIN = 0.15


class Customers:
    """The people who are asked to log in."""

    def __init__(self, universe: "Universe", rng: Random) -> None:
        self._universe = universe
        self._rng = rng
        self._denials = Random(seed_of(universe.plan.seed, "denials"))
        self.done: list[tuple[str, datetime]] = []
        """Whose login was answered as done, and when."""
        self.tried: list[tuple[datetime, int]] = []
        """When a login was answered, and with what status; 0 where it was not answered."""
        self.kept: set[str] = set()
        """The keys of connections whose newest pair was kept: nobody could say whose it is."""
        self.kept_for_now: list[tuple[str, str, datetime]] = []
        """The connection, whose login by a link of their own was kept until Makini says whose it
        is, and when."""
        self.refused: set[str] = set()
        """The keys of connections whose newest pair Linekeeper didn't take: another customer had
        been asked."""

    async def live(self) -> None:
        """Half of them follow their link within ten minutes, those who lost their login."""
        while True:
            await asyncio.sleep(self._rng.expovariate(1 / 600.0))
            for link in self._links():
                if self._rng.random() < 0.5:
                    await self._log_in(link, strays=True)
                    if self._rng.random() < TWICE:
                        await self._log_in(link, strays=True)

    def _links(self) -> list[str]:
        """The connect links that Linekeeper shows: on pages, in Slack and in mails."""
        universe = self._universe
        shown = [str(each.data) for each in universe.prefect.artifacts.values()]
        shown += [message.text for message in universe.slack.channel]
        shown += [mail.text for mail in universe.mail.taken]
        return sorted(set(re.findall(r"https://linekeeper\.sim(/connect/[\w-]+)", " ".join(shown))))

    async def log_in_to(self, connection: Connection) -> bool:
        """The customer of `connection` logs in by the link; False where there is none."""
        for link in self._links():
            if await self._log_in(link, connection):
                return True
        return False

    async def log_in_by(self, link: str, connection: Connection) -> bool:
        """The customer of `connection` logs in by that link, which somebody handed on."""
        return await self._log_in(link, connection)

    async def _log_in(
        self, link: str, wanted: Connection | None = None, *, strays: bool = False
    ) -> bool:
        universe = self._universe
        page = await universe.request("GET", link, {}, b"")
        if page is None or page.status != 200:
            universe.say(f"person: {link[:20]}… {page.status if page else 'no answer'}")
            return False
        shown = page.body.decode()
        found = re.search(r'href="(https://link\.makini\.sim/oauth/authorize\?[^"]+)"', shown)
        connection = self._meant(shown, wanted)
        if found is None or connection is None:
            return False
        if strays and not universe.calm and self._rng.random() < STRAYS_SHARE:
            connection = self._rng.choice(universe.truth.living())
        await asyncio.sleep(self._rng.uniform(5, 120))
        if connection.deleted:
            return False  # somebody else of theirs was faster
        query = urlsplit(unescape(found[1])).query
        if self._universe.personality.denial and self._denials.random() < DENIES:
            await self._deny(query)
            return await self._log_in(link, wanted, strays=strays)
        code, state = universe.face.authorize(query, connection.key)
        given = urlencode({"code": code, "state": state})
        answer = await universe.request("GET", "/oauth/callback", {}, b"", given)
        universe.say(
            f"person: logs in to {connection.key} {answer.status if answer else 'no answer'}"
        )
        self.tried.append((universe.now(), answer.status if answer else 0))
        target = connection.successor or connection.key
        is_kept = answer is None or answer.status not in (200, 400, 409)
        (self.kept.add if is_kept else self.kept.discard)(target)
        if answer is not None and answer.status == 409:
            self.refused.add(target)
        else:
            self.refused.discard(target)
        if wanted is not None and answer is not None and b"login is kept" in answer.body:
            self.kept_for_now.append((target, connection.email, universe.now()))
        if answer is not None and answer.status == 200:
            self.done.append((connection.email, universe.now()))
        if strays and not universe.calm and self._rng.random() < LOST_AGAIN:
            again = universe.truth.connections[connection.successor or connection.key]
            universe.say(f"trouble: {again.key} loses its login again at once")
            universe.truth.lose_login(again, universe.now())
        # Where Makini's word lags, the page says that it is not verified yet: it is logged in.
        return answer is not None and (answer.status == 200 or connection.login_ok)

    async def _deny(self, query: str) -> None:
        """They deny their consent; then they begin once more, as the link still works."""
        [state] = parse_qs(query)["state"]
        said = {"error": "access_denied"} if self._universe.personality.denial == "error" else {}
        given = urlencode({"state": state, **said})
        answer = await self._universe.request("GET", "/oauth/callback", {}, b"", given)
        self._universe.say(f"person: denies {answer.status if answer else 'no answer'}")
        if answer is not None and answer.status not in (400, 503):
            self._universe.found.append(f"denied: answered with {answer.status}")

    def _meant(self, page: str, wanted: Connection | None) -> Connection | None:
        """Whose login the page asks for, as the person understands it."""
        if wanted is not None:
            return wanted if wanted.name in page else None
        locked = self._universe.people.pairs.is_locked_out
        living = self._universe.truth.living()
        lost = [each for each in living if not each.login_ok or locked(each)]
        asked = [each for each in lost if each.provider in page] or lost
        return self._rng.choice(asked) if asked else None
