"""Listings that break off: a page comes again, names the one before it as the next, or is empty.

The source never says how many records it has, so that one listing of several pages proves nothing.
What breaks off is the second one, which was to agree with the first.
"""

import json
from random import Random
from typing import TYPE_CHECKING, Any

from tests.simulation.makini.answers import Answer, as_json

if TYPE_CHECKING:
    from tests.simulation.second_acts import SecondActs
    from tests.simulation.universe import Universe

BREAKS = "breaks"
RECORDS = 130
"""More than are asked for at once."""
WAYS = ("again", "empty")


class _Spoiled:
    """One entity of one connection, whose pages `spoil` changes while it `is_on`."""

    def __init__(self, key: str, entity: str, way: str) -> None:
        self.key, self.entity, self.way = key, entity, way
        self.is_on = False
        self._first: list[Any] = []

    def spoil(self, key: str, entity: str, query: dict[str, str], answer: Answer) -> Answer:
        """The page as it is given: without a total, and not as it should be."""
        if (key, entity) != (self.key, self.entity) or answer.status != 200:
            return answer
        page = json.loads(answer.body)
        last = page.get("meta", {}).get("last_page")
        page.get("meta", {}).pop("total", None)
        page.pop("links", None)
        number = int(query.get("page") or 1)
        if number == 1:
            self._first = page["data"]
        if self.is_on and query.get("cursor"):
            page["next_cursor"] = query["cursor"]
        elif self.is_on and last is not None and self.way == "empty" and number == last > 1:
            page["data"] = []
        elif self.is_on and last is not None and self.way == "again" and number > 1:
            page["data"] = self._first
        return as_json(page)


async def breaks_off(universe: "Universe", acts: "SecondActs", rng: Random) -> None:
    """Once an entity was listed for the first time its listings break off, for up to two hours."""
    connection = acts.one()
    if connection is None or not connection.offers or not universe.personality.says_pages:
        return
    spoiled = _Spoiled(connection.key, rng.choice(connection.offers), rng.choice(WAYS))
    universe.truth.fill(connection, spoiled.entity, RECORDS)
    universe.face.spoil = spoiled.spoil
    listed = (
        "SELECT 1 FROM watermark w JOIN connection c ON c.id = w.connection_id"
        " WHERE c.makini_key = ? AND w.entity = ? AND w.full_at IS NOT NULL"
    )
    place = (spoiled.key, spoiled.entity)
    if not await acts.until(lambda: bool(universe.ask(listed, place)), within=1e6, every=1.0):
        return
    if universe.faulty(BREAKS):
        universe.say(f"breaks: the listings of {' '.join(place)} break off ({spoiled.way})")
        universe.acted.add(BREAKS)
        spoiled.is_on = True
        lasts = rng.choice((2400.0, 4000.0, 7200.0)) * universe.plan.pace
        await acts.until(lambda: universe.calm, within=lasts)
        spoiled.is_on = False
        universe.say(f"breaks: the listings of {' '.join(place)} are whole again")
