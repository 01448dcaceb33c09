"""The product asks, once everything is over: for each connection's token, and for what changed."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from linekeeper.access.keys import make_key
from linekeeper.clock import utcnow
from linekeeper.credits.service import check
from linekeeper.runtime import Runtime
from tests.simulation.loop import Host
from tests.simulation.patience import OVERDUE_WITHIN

if TYPE_CHECKING:
    from tests.simulation.makini.connection import Connection
    from tests.simulation.oracle import Oracle
    from tests.simulation.universe import Universe

KNOWN_WITHIN = timedelta(minutes=45)
"""From the end of a connection, or the loss of its login, until it is known here."""
SETTLED = timedelta(minutes=1)
A_PAGE = 5
COSTS = {"sap-ecc": 8}
"""Credits of a connection, by Makini's tariff: its tier III, on-premises. Others cost one."""


@dataclass(frozen=True)
class Given:
    """What the product was answered for one connection."""

    status: int
    is_live: bool
    """Whether the token that was given opens that connection."""


class Asking:
    """What the product was answered, and when it had asked."""

    def __init__(self, universe: "Universe") -> None:
        self._universe = universe
        self.key = ""
        self.tokens: dict[str, Given] = {}
        self.changes: list[str] = []
        """The ids of all changes, as they were read."""
        self.at: datetime | None = None

    async def ask(self) -> None:
        """All of it. Whoever checks the ledger of credits does so twice, at the same time."""
        universe = self._universe
        _, made = universe.start("key", self._make_key)
        await made
        booking = [universe.start(f"credits {number}", self._book)[1] for number in range(2)]
        for task in booking:
            await task
        for connection in list(universe.truth.connections.values()):
            await self._token(connection)
        self.at = universe.now()
        await self._changes()

    async def _make_key(self, _: Host) -> None:
        async with Runtime.open() as rt, rt.store.write() as session:
            self.key = await make_key(session, "product", (), by="ann", now=utcnow())

    async def _book(self, _: Host) -> None:
        async with Runtime.open() as rt:
            await check(rt.store, now=utcnow())

    async def _token(self, connection: "Connection") -> None:
        universe, path = self._universe, f"/api/connections/{connection.key}/token"
        answer = await universe.request("GET", path, self._headers, b"")
        if answer is None:
            return
        is_live = False
        if answer.status == 200:
            access = json.loads(answer.body)["access_token"]
            is_live = universe.truth.owner_of(access, universe.now()) is connection
        self.tokens[connection.key] = Given(answer.status, is_live)

    async def _changes(self) -> None:
        after = ""
        while True:
            query = urlencode({"limit": A_PAGE, **({"after": after} if after else {})})
            answer = await self._universe.request(
                "GET", "/api/changes", self._headers, b"", query
            )  # fmt: skip
            if answer is None or answer.status != 200:
                self._universe.found.append(f"feed: answered with {answer and answer.status}")
                return
            page = json.loads(answer.body)
            self.changes += [change["id"] for change in page["data"]]
            if page["next"] == after or not page["data"]:
                return
            after = page["next"]

    @property
    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}


def wrongly_given(oracle: "Oracle") -> list[str]:
    """Everything that is broken, in one line each."""
    return [*_tokens(oracle), *_feed(oracle), *_booked(oracle)]


def _tokens(oracle: "Oracle") -> Iterator[str]:
    """Whoever works has a token that works; nobody whose login is lost has one, or who is gone."""
    universe = oracle.universe
    for key, given in universe.asking.tokens.items():
        connection = universe.truth.connections[key]
        if connection.deleted:
            is_known = key in universe.people.removed or connection.successor is not None
            ended_at = connection.deleted_at or universe.now()
            if given.status == 200 and is_known and universe.now() - ended_at > KNOWN_WITHIN:
                yield f"token: one was given for {key}, which is gone since {ended_at:%H:%M:%S}"
            continue
        if _cannot_be_known(oracle, connection):
            continue
        if connection.login_ok and not (given.status == 200 and given.is_live):
            wrong = "a dead one" if given.status == 200 else f"none ({given.status})"
            yield f"token: {connection.name} ({key}) works, and the product was given {wrong}"
        if not connection.login_ok and given.status == 200:
            yield f"token: {connection.name} ({key}) lost its login, and the product was given one"


def _cannot_be_known(oracle: "Oracle", connection: "Connection") -> bool:
    """Whether it changed of late, or something of it is wrong for good."""
    now, lag = oracle.universe.now(), oracle.universe.personality.status_lag
    is_new = now - max(connection.states[-1][0], connection.words[-1][0]) < KNOWN_WITHIN
    is_hidden = oracle.is_fresh(connection) if connection.login_ok else lag > 600
    return (
        is_new or is_hidden or not (connection.online and connection.active)
        or oracle.is_sick(connection.key)
        or oracle.is_unreadable(connection) or oracle.was_locked_out(connection)
        or oracle.universe.people.patience.excuses(connection, OVERDUE_WITHIN)
    )  # fmt: skip


def _feed(oracle: "Oracle") -> Iterator[str]:
    """The product read every change, once."""
    asking = oracle.universe.asking
    if asking.at is None:
        return
    read = Counter(asking.changes)
    yield from (f"feed: change {each} was read {count} times" for each, count in read.items()
                if count > 1)  # fmt: skip
    edge = asking.at - SETTLED - max(oracle.wrong_by(), timedelta())
    for row in oracle.rows(
        "SELECT id, key FROM change WHERE at < ?", edge.isoformat(timespec="microseconds")
    ):
        if row["id"] not in read:
            yield f"feed: change {row['id']} of {row['key']} was not read"


def _booked(oracle: "Oracle") -> Iterator[str]:
    """Each connection that is there took its credits once; one that is gone holds none."""
    for row in oracle.rows(
        "SELECT c.name, c.setup, c.provider, coalesce(sum(e.delta), 0) AS taken"
        " FROM connection c LEFT JOIN credit_entry e ON e.subject = c.id"
        " WHERE c.created_at < ? AND (c.setup = 'disconnected' OR"
        " (c.setup != 'pending' AND lower(c.list_status) = 'active')) GROUP BY c.id",
        (oracle.universe.now() - KNOWN_WITHIN).isoformat(timespec="microseconds"),
    ):
        cost = COSTS.get(row["provider"], 1)
        wanted = 0 if row["setup"] == "disconnected" else cost
        if row["taken"] != -wanted:
            yield f"credits: {row['name']} is {row['setup']}, and holds {-row['taken']} of {cost}"
