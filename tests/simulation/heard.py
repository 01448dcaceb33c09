"""What Makini answered to calls with a connection's own token: what Linekeeper could know.

Nobody knows for certain what only a process was told that ended before it may have stored it.

A mail that asks for a login is judged by it. Makini's status `fail` is its one documented word for
a lost login and counts, though it may be late, unless a record was read since it was first said:
then it has to last, or to be of a later synchronization than that. Whatever else says that a login
is lost is settled by a read, the strongest test there is, before anybody is written to.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile
from typing import TYPE_CHECKING

from tests.simulation.loop import Host
from tests.simulation.makini.answers import Answer
from tests.simulation.makini.connection import Connection
from tests.simulation.net import Fault, Request

if TYPE_CHECKING:
    from tests.simulation.universe import Universe

STATUS = "/api/integrations/current"
ACTED_WITHIN = timedelta(minutes=2)
"""From an answer until no mail contradicts it: who is to be written to is looked up by then."""
STORED_WITHIN = timedelta(seconds=30)
"""From an answer until whoever asked has stored it: what was asked beside it may take its time."""
LASTS = timedelta(minutes=50)
"""A `fail` that a read contradicts is believed where it lasts for longer."""
AGAINST = frozenset({"fail", "failed", "refused"})
"""Answers that say or leave open that the login is lost: whoever may know of one may act on it."""
HINDERS = frozenset({"settings", "statements", "before commit"})
"""Kinds of trouble with which an answer may not be stored, or no read be made."""


@dataclass(frozen=True)
class Heard:
    """One answer: `read`, `refused` or `failed`, or the word of a status."""

    at: datetime
    word: str
    host: Host | None = None
    """The process that asked."""
    synced_at: datetime | None = None
    """When the synchronization was of which a status tells, as it says itself."""
    login: tuple[str, datetime] | None = None
    """The connection, and since when, of a login with whose pair was asked; none: no new one."""

    @property
    def is_stored(self) -> bool:
        """Whether who asked lived on for long enough to store it."""
        ended_at = self.host.interrupted_at if self.host is not None else None
        return ended_at is None or not self.at <= ended_at < self.at + STORED_WITHIN

    def is_of_later(self, read: "Heard") -> bool:
        """Whether a status tells of a synchronization since `read`."""
        return self.synced_at is not None and self.synced_at > read.at


class Evidence:
    """All answers of a universe, by connection."""

    def __init__(self, universe: "Universe") -> None:
        self._universe = universe
        self._heard: dict[str, list[Heard]] = {}

    def answered(
        self, request: Request, answer: Answer, fault: Fault | None, host: Host | None
    ) -> None:
        """A call of `host` was answered so, or met `fault`."""
        if request.host != "makini.sim" or not request.path.startswith("/api/"):
            return
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        owner = self._universe.truth.owner_of(token, self._universe.now())
        if owner is not None:
            word = _word(request.path, answer, fault)
            login = self._login_of(owner, token)
            heard = Heard(self._universe.now(), word, host, _synced_at(word, answer), login)
            self._heard.setdefault(owner.key, []).append(heard)

    def words_of(self, connection: Connection) -> set[str]:
        """Every word that calls of `connection` were answered with."""
        return {each.word for each in self._heard.get(connection.key, [])}

    def contradicts(self, line: Iterable[Connection], since: datetime, at: datetime) -> str:
        """Why the login was known to work at `at`, or could have been; empty where it could not.

        It works since `since` in truth.
        """
        heard = sorted(
            (each for connection in line for each in self._heard.get(connection.key, [])
             if since < each.at < at and (each.is_stored or each.word in AGAINST)),
            key=lambda each: each.at,
        )  # fmt: skip
        words = [each for each in heard if each.word not in ("read", "failed", "refused")]
        fails = words and words[-1].word == "fail"  # the documented word, though it may be late
        settled = [each for each in heard if each.at < at - ACTED_WITHIN]
        reads = [each for each in settled if each.word == "read"]
        said = _trailing(words, "fail")[-1].at if fails else at
        is_new = fails and reads and reads[-1].at > said and at - said < LASTS
        is_new = is_new and not words[-1].is_of_later(reads[-1])
        if reads and (is_new or not (fails and words[-1].at > reads[-1].at)):
            return f"a record was read at {reads[-1].at:%H:%M:%S}"
        if fails:
            return ""
        is_hindered = bool(self._universe.people.kinds & HINDERS)
        good = [each for each in settled if each in words and self._is_placed(each, at)]
        if not good or is_hindered or any(each.word in ("failed", "refused") for each in heard):
            return ""
        return f"its status said {good[-1].word} at {good[-1].at:%H:%M:%S}, and nothing was read"

    def _login_of(self, owner: Connection, token: str) -> tuple[str, datetime] | None:
        began = self._universe.begins
        logins = (pair for pair in owner.pairs if pair.source == "login" and pair.access == token)
        return next(
            ((owner.key, pair.issued_at) for pair in logins if pair.issued_at > began), None
        )

    def _is_placed(self, heard: Heard, by: datetime) -> bool:
        """Whether it was known by then whose the login was that an answer tells of.

        While Makini's list can't be read nobody can say of one by a link that asks for another.
        """
        if heard.login is None:
            return True
        key, since = heard.login
        return bool(self._universe.ask(_PLACED, (key, since.isoformat(), by.isoformat())))


_PLACED = (
    "SELECT 1 FROM audit a JOIN connection c ON a.action = 'login.renewed' AND a.subject = c.id"
    " OR a.action = 'login.other_system' AND instr(a.detail, c.name)"
    " WHERE c.makini_key = ? AND a.at BETWEEN ? AND ?"
)


def _trailing(words: list[Heard], word: str) -> list[Heard]:
    """The last ones that all say `word`, the newest first."""
    return list(takewhile(lambda each: each.word == word, reversed(words)))


def _word(path: str, answer: Answer, fault: Fault | None) -> str:
    if fault is not None and fault.kind != "slow":
        return "failed"
    if answer.status != 200:
        return "refused" if answer.status in (401, 403) else "failed"
    if path == STATUS:
        return str(json.loads(answer.body)["data"]["sync_status"])
    return "read"


def _synced_at(word: str, answer: Answer) -> datetime | None:
    if word in ("read", "refused", "failed"):
        return None
    said = json.loads(answer.body)["data"].get("sync_updated_at")
    return datetime.fromisoformat(said) if said else None
