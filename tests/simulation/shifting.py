"""Records change while a listing of theirs is read: what is on its next page is not what was."""

from random import Random
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from tests.simulation.net import Request

if TYPE_CHECKING:
    from tests.simulation.universe import Universe

SHARE = 0.4
"""Of the pages after the first, those before which something changed."""
RECORDS = 30
"""So many more of each entity, that there are pages."""


class Shifting:
    """Changes what is being read."""

    def __init__(self, universe: "Universe", rng: Random) -> None:
        self._universe = universe
        self._rng = rng

    def fill(self) -> None:
        """Every entity has several pages."""
        truth = self._universe.truth
        for connection in truth.living():
            for entity in connection.offers:
                truth.fill(connection, entity, RECORDS)

    def called(self, request: Request) -> None:
        """A page is asked for."""
        if request.host != "makini.sim" or not request.path.startswith("/api/"):
            return
        asked = {name: values[0] for name, values in parse_qs(request.query).items()}
        if asked.get("page", "1") == "1" and not asked.get("cursor"):
            return
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        owner = self._universe.truth.owner_of(token, self._universe.now())
        entity = request.path.removeprefix("/api/")
        if owner is None or entity not in owner.records or self._rng.random() >= SHARE:
            return
        how = self._rng.choice(("updated", "updated", "inserted", "deleted"))
        self._universe.say(f"record of {owner.key} {entity} {how} between two pages")
        self._universe.truth.change(owner, entity, self._universe.now(), how)
