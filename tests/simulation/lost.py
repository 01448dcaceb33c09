"""When a login was lost, in truth: of a connection, and of those that stood in its place."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from tests.simulation.makini.connection import Connection
from tests.simulation.makini.truth import Truth

if TYPE_CHECKING:
    from tests.simulation.universe import Universe

UNLISTED_FOR = timedelta(minutes=10)
"""From a connection's end until its refused calls count as a lost login, where no list is read."""
NOTICED_LATE = timedelta(minutes=40)
"""A lost login may be noticed so long after it was true: misses, sweeps, a word that lags."""


def line_of(truth: Truth, connection: Connection) -> list[Connection]:
    """The connection and those whose place it took."""
    before = {each.successor: each for each in truth.connections.values() if each.successor}
    line = [connection]
    while line[-1].key in before:
        line.append(before[line[-1].key])
    return line


def is_gone_unlisted(universe: "Universe", connection: Connection, at: datetime) -> bool:
    """Whether it is gone at Makini for a while, and no list was answered that could have told."""
    gone_at = connection.deleted_at
    if gone_at is None or at - gone_at < UNLISTED_FOR:
        return False
    return not any(gone_at <= when <= at for when, _ in universe.face.lists)


def is_unverifiable(universe: "Universe", connection: Connection, at: datetime) -> bool:
    """Whether its customer has logged in, and to the end no status says whose login that is.

    The login killed the pair of before, so that its refusal looks like any lost login's. That
    nobody is mailed within the hour after it is another demand (`doubted.mailed_while_kept`).
    """
    sick = universe.people.sick
    if sick is None or not sick.covers(connection.key, ""):
        return False
    customers, key = universe.people.customers, connection.key
    if key in customers.kept and connection.pairs[-1].issued_at <= at:  # by whatever link
        return True
    return any(of == key and since <= at for of, _, since in customers.kept_for_now)


def is_token_missing(universe: "Universe", connection: Connection, at: datetime) -> bool:
    """Whether it was made anew at Makini itself, which mints no token: a login is asked for.

    So it is where that was done with the one that took its place, though no list has told yet; and
    where the token of a login that Makini renews no more has ended before its time.
    """
    heir = universe.truth.connections.get(connection.successor or "")
    if heir is not None and heir.created_at <= at:
        connection = heir
    if universe.personality.mint != "refused":
        return False
    issued = [pair for pair in connection.pairs if pair.issued_at <= at]
    if issued and max(issued[-1].access_until, issued[-1].refresh_until) <= at:
        return True
    if len(line_of(universe.truth, connection)) == 1:
        return False
    if not issued:
        return True
    is_refused = connection.key in universe.people.customers.refused  # its pair is nowhere
    return is_refused or _is_thrown_away(universe, connection.key)


def was_lost(connection: Connection, since: datetime, until: datetime) -> bool:
    """Whether the login did not work at some moment of the span."""
    return _ever(connection, since, until, works=False)


def worked(connection: Connection, since: datetime, until: datetime) -> bool:
    """Whether the login worked at some moment of the span."""
    return _ever(connection, since, until, works=True)


def works_since(lines: Iterable[Connection], at: datetime) -> datetime | None:
    """Since when the logins of all of them work at `at`; None where one of them doesn't.

    That of a connection that is gone at Makini is lost no more.
    """
    since = datetime.min.replace(tzinfo=UTC)
    for connection in lines:
        ends = [end for end, _ in connection.logins[1:]] + [connection.deleted_at or at]
        for (began, works), end in zip(connection.logins, ends, strict=True):
            if works or began > at:
                continue
            if end >= at:
                return None
            since = max(since, end)
    return since


def _ever(connection: Connection, since: datetime, until: datetime, *, works: bool) -> bool:
    ends = [at for at, _ in connection.logins[1:]] + [until]
    return any(
        state == works and at <= until and end >= since
        for (at, state), end in zip(connection.logins, ends, strict=True)
    )


def is_unreadable(universe: "Universe", connection: Connection) -> bool:
    """Whether nobody gave Linekeeper a token of it, and it may not make one itself.

    A login that is kept may turn out to be of another system than was asked for: then its pair is
    thrown away, too. One that Makini renews no more may have ended early.
    """
    people = universe.people
    if people.pairs.is_locked_out(connection):
        return True
    if universe.personality.mint != "refused":
        return False
    now = universe.now()
    lives = any(now < max(pair.access_until, pair.refresh_until) for pair in connection.pairs)
    if connection.login_ok and not lives:
        return True
    key, customers = connection.key, people.customers
    is_given = connection.pairs and key not in customers.refused
    return not is_given or _is_thrown_away(universe, key)


def _is_thrown_away(universe: "Universe", key: str) -> bool:
    """Whether the newest pair of this connection was kept, and turned out to be of another
    system than was asked for."""
    if key not in universe.people.customers.kept:
        return False
    has_token = universe.ask(
        "SELECT 1 FROM credential k JOIN connection c ON c.id = k.connection_id"
        " WHERE c.makini_key = ?", (key,),
    )  # fmt: skip
    others = universe.ask("SELECT 1 FROM audit WHERE action = ?", ("login.other_system",))
    return bool(others) and not has_token
