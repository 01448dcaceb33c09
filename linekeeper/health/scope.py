"""Whether a failed data call is about the whole connection: its own status says so."""

from enum import StrEnum

from sqlalchemy import update
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.health.judge import Outcome
from linekeeper.health.probe import understand
from linekeeper.makini import ErrorKind, MakiniClient, MakiniError
from linekeeper.store import Store
from linekeeper.store.tables import Connection

_SILENT = frozenset(
    {
        ErrorKind.rate_limited,
        ErrorKind.unavailable,
        ErrorKind.timeout,
        ErrorKind.network,
        ErrorKind.circuit_open,
    }
)


class Whole(StrEnum):
    """What a status call with the connection's own token says of the connection as a whole."""

    answers = "answers"
    """The token is good, and the login isn't said to be lost."""
    token_refused = "token_refused"  # noqa: S105 - no password
    login_lost = "login_lost"
    """The token is good, and Makini says that the system refuses the stored credentials."""
    silent = "silent"
    """No answer, for a reason that may pass."""
    unclear = "unclear"


async def ask_whole(makini: MakiniClient, token: str, *, connection: str) -> Whole:
    """One status call; never raises for what Makini answers."""
    try:
        status = await makini.status(token, connection=connection)
    except MakiniError as error:
        if error.kind is ErrorKind.unauthorized and error.connection is not None:
            return Whole.token_refused
        return Whole.silent if error.kind in _SILENT else Whole.unclear
    lost = understand(status, utcnow()).outcome is Outcome.login_lost
    return Whole.login_lost if lost else Whole.answers


async def make_suspect(store: Store, connection_id: str) -> None:
    """Have the connection probed at the next sweep; the probe decides about its health."""
    async with store.write() as session:
        await session.execute(
            update(Connection)
            .where(col(Connection.id) == connection_id)
            .values(suspect=True, next_probe_at=utcnow())
        )
