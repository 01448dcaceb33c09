"""How far a failed call reaches: one entity, one connection, or the whole app. Pure.

Evidence has a scope (DESIGN "True before green"): what one entity answers says nothing of the login
nor of the other entities, and what one connection answers nothing of the app. What the error alone
can't tell, a status call of the connection does (`linekeeper.health.scope`).
"""

from enum import StrEnum

from linekeeper.makini.errors import NO_TOKEN, ErrorKind, MakiniError


class ErrorScope(StrEnum):
    """What a failure is evidence about."""

    entity = "entity"
    connection = "connection"
    app = "app"


_ABOUT_THE_CALL = frozenset(
    {
        ErrorKind.unauthorized,
        ErrorKind.forbidden,
        ErrorKind.not_found,
        ErrorKind.rejected,
        ErrorKind.unavailable,
        ErrorKind.timeout,
        ErrorKind.network,
        ErrorKind.malformed,
    }
)
"""Of a data call these may be about its entity alone."""


def error_scope(error: MakiniError, *, of_entity: bool = False) -> ErrorScope:
    """The widest thing that `error` may be evidence about.

    `of_entity`: the call asked for records of one entity. An error that names no connection is the
    app's; a call limit, an open circuit and a missing token are the connection's.
    """
    if error.connection is None:
        return ErrorScope.app
    if of_entity and error.kind in _ABOUT_THE_CALL and error.code != NO_TOKEN:
        return ErrorScope.entity
    return ErrorScope.connection
