"""What Makini asked for with a long `Retry-After`: a pause is kept, and excuses what it delays.

The contract lets Makini ask for any pause. Linekeeper keeps one of up to an hour on the connection
that was refused, and a minute of it on all of an app where three were refused within a minute.
While it lasts, the connection isn't called, so nothing can be expected of it; once it is over,
everything is expected within the same bounds as of any other.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from tests.simulation.heard import STATUS
from tests.simulation.makini.connection import Connection
from tests.simulation.net import Fault, Request

if TYPE_CHECKING:
    from tests.simulation.universe import Universe

SHORT = timedelta(seconds=60)
"""A pause of so long is waited for within the call."""
STORED_WITHIN = timedelta(seconds=30)
"""Calls that were under way when the answer came."""
CLOCKS = timedelta(seconds=330)
"""By so much the clocks of two processes may differ."""
PUT_RIGHT_WITHIN = timedelta(seconds=420)
"""How exactly what a clock wrote that was ahead is put right: by what was written last, as each
beat of a consumer, which is rarer here (`ports.BEAT_SECONDS`)."""
OVERDUE_WITHIN = timedelta(minutes=35)
"""From the end of a pause: by then a poll has been round."""
AT_ONCE = timedelta(minutes=1)


@dataclass(frozen=True)
class Pause:
    """Makini asked for it at `since`."""

    key: str
    since: datetime
    until: datetime
    login: str = ""
    """The token of the login that was asked about, of which nobody knew whose it is: then no other
    call has to wait for it."""
    later: timedelta = timedelta()
    """By so much it may end later."""


class Patience:
    """Every long pause that was asked for, and the calls that did not wait for its end."""

    def __init__(self, universe: "Universe") -> None:
        self._universe = universe
        self.pauses: list[Pause] = []
        self.hurried: list[str] = []

    def called(self, request: Request, fault: Fault | None) -> None:
        """A call goes out, and `fault` is what it will meet."""
        is_said = self._universe.personality.retry_after_as != "none"
        asked = _asked(fault) if is_said else None
        if request.host != "makini.sim" or not (asked or self.pauses):
            return
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        now = self._universe.now()
        for connection in self._universe.truth.living():
            pair = next((each for each in connection.pairs if each.access == token), None)
            if pair is None:
                continue
            is_new_login = pair.source == "login" and now - pair.issued_at < AT_ONCE * 2
            login = token if pair.source == "login" and self._is_verifying(request) else ""
            if not is_new_login:
                self._hurries(connection, request, now, login)
            if asked is not None:
                ahead = self._universe.machine_skew > timedelta()
                later = PUT_RIGHT_WITHIN if ahead else timedelta()
                self.pauses.append(Pause(connection.key, now, now + asked, login, later))

    def _is_verifying(self, request: Request) -> bool:
        """Whether the call may ask whose a login is."""
        waits = "SELECT 1 FROM pending_login LIMIT 1"
        return request.path == STATUS and bool(self._universe.ask(waits, ()))

    def _hurries(
        self, connection: Connection, request: Request, now: datetime, login: str
    ) -> None:  # fmt: skip
        for pause in self.pauses:
            lasts = pause.since + STORED_WITHIN < now < pause.until - CLOCKS
            is_asked = pause.key == connection.key and pause.login == login
            if is_asked and lasts and not self._forgotten(pause):
                self.hurried.append(
                    f"{connection.key} was called at {now:%H:%M:%S} ({request.path}); at "
                    f"{pause.since:%H:%M:%S} Makini had asked for a pause until {pause.until:%H:%M}"
                )

    def _forgotten(self, pause: Pause) -> bool:
        """Whether a process ended before it could store what it was asked."""
        ended = (*self._universe.crashed_at, *self._universe.stopped_at)
        return any(pause.since <= at <= pause.since + STORED_WITHIN for at in ended)

    def excuses(self, connection: Connection, within: timedelta) -> bool:
        """Whether a pause lasts, or ended less than `within` ago."""
        edge = self._universe.now() - within
        return any(
            pause.until + pause.later > edge
            if pause.key == connection.key
            else min(pause.until, pause.since + SHORT) > edge and self._is_of_all(pause)
            for pause in self.pauses
        )

    def _is_of_all(self, pause: Pause) -> bool:
        """Whether three connections were refused within the minute: all wait for a minute."""
        near = {
            each.key for each in self.pauses if abs(each.since - pause.since) < timedelta(minutes=1)
        }
        return len(near) >= 3


def _asked(fault: Fault | None) -> timedelta | None:
    if fault is None or fault.status != 429 or fault.retry_after is None:
        return None
    asked = timedelta(seconds=float(fault.retry_after))
    return asked if asked > SHORT else None
