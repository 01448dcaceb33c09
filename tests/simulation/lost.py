"""When a login was lost, in truth: of a connection, and of those that stood in its place."""

from datetime import datetime, timedelta

from tests.simulation.makini.truth import Connection, Truth

NOTICED_LATE = timedelta(minutes=40)
"""A lost login may be noticed so long after it was true: misses, sweeps, a word that lags."""


def line_of(truth: Truth, connection: Connection) -> list[Connection]:
    """The connection and those whose place it took."""
    before = {each.successor: each for each in truth.connections.values() if each.successor}
    line = [connection]
    while line[-1].key in before:
        line.append(before[line[-1].key])
    return line


def was_lost(connection: Connection, since: datetime, until: datetime) -> bool:
    """Whether the login did not work at some moment of the span."""
    return _ever(connection, since, until, works=False)


def worked(connection: Connection, since: datetime, until: datetime) -> bool:
    """Whether the login worked at some moment of the span."""
    return _ever(connection, since, until, works=True)


def _ever(connection: Connection, since: datetime, until: datetime, *, works: bool) -> bool:
    ends = [at for at, _ in connection.logins[1:]] + [until]
    return any(
        state == works and at <= until and end >= since
        for (at, state), end in zip(connection.logins, ends, strict=True)
    )
