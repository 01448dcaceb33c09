"""A new token pair is lost on its way, or comes when the power of the process that asked for it was
cut: Makini has killed the pair before it, and its contract has no way to ask for it again."""

import json
from random import Random
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from tests.simulation.loop import Host
from tests.simulation.lost import line_of
from tests.simulation.makini.answers import Answer
from tests.simulation.makini.connection import Connection
from tests.simulation.net import Fault, Request

if TYPE_CHECKING:
    from tests.simulation.universe import Universe

LOST = 0.3
"""The share of answers with a new pair that are."""


class LostPairs:
    """Which new pairs nobody has."""

    def __init__(self, universe: "Universe", rng: Random) -> None:
        self._universe = universe
        self._rng = rng
        self._lost: set[str] = set()
        self._ever: set[str] = set()

    def fault_of(self, request: Request) -> Fault | None:
        """What a call for a new pair meets."""
        owner = self._owner(request)
        if owner is None:
            return None
        if self._rng.random() >= LOST:  # the pair of before stays lost until this one has come
            return None
        self._lose(owner, "is lost on its way")
        return Fault("lose")

    def came(self, request: Request, answer: Answer, host: Host | None) -> None:
        """An answer came, to nobody where the process that asked is no more.

        One that stands still stores it once it goes on: until then nobody else has it either.
        """
        if request.path != "/link/token" or b'"refresh_token"' not in answer.body:
            return
        refresh = json.loads(answer.body)["refresh_token"]
        owner = self._universe.truth.refreshable(refresh, self._universe.now()) if refresh else None
        if owner is None:
            return
        if host is not None and host.crashed:
            self._lose(owner, "came to nobody")
            return
        self._lost.discard(owner.key)
        if host is not None and host.stalled:
            self._universe.say(f"the new pair of {owner.key} came to a process that stands still")
            self._ever.add(owner.key)

    def _lose(self, owner: Connection, how: str) -> None:
        self._universe.say(f"trouble: the new pair of {owner.key} {how}")
        self._lost.add(owner.key)
        self._ever.add(owner.key)

    def _owner(self, request: Request) -> Connection | None:
        """Whose new pair is asked for; None where the request gives none."""
        truth, given = self._universe.truth, parse_qs(request.body.decode(errors="replace"))
        for refresh in given.get("refresh_token", ()):
            return truth.refreshable(refresh, self._universe.now())
        for code in given.get("code", ()):
            known = self._universe.face.codes.get(code)
            return truth.connections[known[0]] if known else None
        return None

    def is_locked_out(self, connection: Connection) -> bool:
        """Whether nobody has its pair, and Linekeeper may not make another: it asks for a login."""
        return self._is_among(self._lost, connection)

    def was_locked_out(self, connection: Connection) -> bool:
        """Whether that was ever so."""
        return self._is_among(self._ever, connection)

    def _is_among(self, keys: set[str], connection: Connection) -> bool:
        if not keys or self._universe.personality.mint != "refused":
            return False
        line = line_of(self._universe.truth, connection)
        return any(each.key in keys for each in line)
