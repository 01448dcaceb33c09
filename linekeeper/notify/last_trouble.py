"""The last trouble that was seen on connections, as evidence in a message."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.store.engine import chunked
from linekeeper.store.tables import Observation

_AT_ONCE = 5_000  # ids in one statement
_OF_LOGIN = ("login_lost", "doubted")  # outcomes that speak of the login
_IS_OF_LOGIN = col(Observation.outcome).in_(_OF_LOGIN)
_TROUBLES = (
    select(
        col(Observation.id),
        func.row_number()
        .over(
            partition_by=[col(Observation.connection_id), _IS_OF_LOGIN],
            order_by=[col(Observation.at).desc(), col(Observation.id).desc()],
        )
        .label("age"),
    )
    .where(
        col(Observation.connection_id).in_(bindparam("ids", expanding=True)),
        col(Observation.outcome) != "answered",
        or_(col(Observation.code).is_not(None), col(Observation.message).is_not(None)),
    )
    .subquery()
)
_LAST_TROUBLE = (
    select(
        col(Observation.connection_id),
        col(Observation.outcome),
        col(Observation.at),
        col(Observation.code),
        col(Observation.message),
        col(Observation.request_id),
    )
    .join(_TROUBLES, _TROUBLES.c.id == col(Observation.id))
    .where(_TROUBLES.c.age == 1)
    .order_by(col(Observation.at), col(Observation.id))
)
"""Built once: building it takes longer than running it."""


async def last_trouble(
    session: AsyncSession, connection_ids: Sequence[str]
) -> dict[tuple[str, bool], Any]:
    """The newest trouble of each connection, and (True) the newest that speaks of its login.

    Where none does, that is the newest of all.
    """
    troubles: dict[tuple[str, bool], Any] = {}
    for batch in chunked(connection_ids, _AT_ONCE):
        rows = await session.execute(_LAST_TROUBLE, {"ids": batch})
        for row in rows:  # the newest comes last
            troubles[row.connection_id, False] = row
            if row.outcome in _OF_LOGIN:
                troubles[row.connection_id, True] = row
    for connection_id, is_of_login in list(troubles):
        if not is_of_login:
            troubles.setdefault((connection_id, True), troubles[connection_id, False])
    return troubles
