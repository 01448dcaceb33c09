"""What stays wrong to the end: one connection, or one entity of it, beside which the rest works."""

from dataclasses import dataclass
from random import Random

from tests.simulation.makini.connection import Connection
from tests.simulation.net import Fault, Request


@dataclass(frozen=True)
class Sickness:
    """`entity` is empty where the whole connection has it."""

    connection: Connection
    entity: str
    fault: Fault
    lacking: int = 0
    """How many records the listing lacks, though its total counts them; then nothing fails."""

    def words(self) -> str:
        """For the trace."""
        what = f"lacks {self.lacking} records" if self.lacking else str(self.fault)
        return f"{self.connection.key} {self.entity or 'as a whole'}: {what}"

    def matches(self, request: Request) -> bool:
        """Whether a call meets it."""
        if self.lacking or request.host != "makini.sim":
            return False
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not any(pair.access == token for pair in self.connection.pairs):
            return False
        return request.path.startswith(f"/api/{self.entity}" if self.entity else "/api/")

    def covers(self, key: str, entity: str) -> bool:
        """Whether nothing can be expected of the records of `entity`."""
        return self.connection.key == key and self.entity in ("", entity)


SICK = ("hang", "429", "html", "lacking", "lacking", "401", "401", "403", "500", "entity hangs")


def draw(
    rng: Random, living: list[Connection], wanted: str = "", *, has_total: bool = True
) -> Sickness | None:
    """One sickness of one connection; None where it would leave nobody well.

    What a listing lacks shows by its total; where it has none, nobody could know.
    """
    # Where there is one entity alone, its refusal is that of the connection.
    several = [each for each in living if len(each.offers) > 1]
    name = wanted or rng.choice(SICK)
    if name in ("401", "403", "500", "entity hangs") and not several:
        return None
    if len(living) < 3 or (name == "lacking" and not has_total):
        return None
    connection = rng.choice(several if name not in ("hang", "429", "html") and several else living)
    entity = sorted(connection.offers)[0]
    match name:
        case "hang":
            return Sickness(connection, "", Fault("hang"))
        case "429":
            return Sickness(connection, "", Fault("status", 429, retry_after="3600"))
        case "html":
            return Sickness(connection, "", Fault("html"))
        case "lacking":
            return Sickness(connection, entity, Fault("none"), lacking=rng.choice((1, 2)))
        case "entity hangs":
            return Sickness(connection, entity, Fault("hang"))
    return Sickness(connection, entity, Fault("status", int(name)))
