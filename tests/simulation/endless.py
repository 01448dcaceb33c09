"""Work without an end: a process that asks the same again and again, or never lets time pass.

Such a process is stopped where it is, so that the universe comes to its end and is judged.
"""

from collections import Counter
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from tests.simulation.loop import HOST, Host
from tests.simulation.net import Request

if TYPE_CHECKING:
    from tests.simulation.universe import Universe

MOST = 100
WITHIN = timedelta(hours=1)
"""No process asks Makini so often for the same within this time, by the same token."""


class Endless:
    """Counts what each process asks Makini for."""

    def __init__(self, universe: "Universe") -> None:
        self._universe = universe
        self._since: dict[Host, datetime] = {}
        self._asked: dict[Host, Counter[tuple[str, str, str]]] = {}

    def called(self, request: Request) -> None:
        """A call goes out; a process whose calls have no end stands still from then on."""
        host, now = HOST.get(), self._universe.now()
        if request.host != "makini.sim" or request.method != "GET" or host is None:
            return
        if now - self._since.get(host, now - WITHIN) >= WITHIN:
            self._since[host], self._asked[host] = now, Counter()
        question = (request.path, request.query, request.headers.get("authorization", ""))
        self._asked[host][question] += 1
        if self._asked[host][question] == MOST:
            self._universe.found.append(
                f"endless: {host.name} asked {MOST} times for {request.path}?{request.query}"
            )
            self._universe.loop.stall(host)
