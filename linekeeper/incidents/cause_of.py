"""Why a connection is as it is, where that is known (`kinds.meaning`)."""

from sqlalchemy import case, type_coerce
from sqlmodel import col

from linekeeper.health.token_missing import TOKEN_MISSING
from linekeeper.store.tables import Connection
from linekeeper.store.types import Json
from linekeeper.tokens.lost_renewal import IS_RENEWAL_LOST, RENEWAL_LOST

_JUDGED = type_coerce(col(Connection.judged), Json)
_DEGRADED_BY = _JUDGED["degraded_by"].as_string()
_UNKNOWN_BY = _JUDGED["unknown_by"].as_string()
_TOKEN_MISSING_SINCE = _JUDGED["token_missing_since"].as_string()
CAUSE = case(
    (_DEGRADED_BY.is_not(None), _DEGRADED_BY),
    (_UNKNOWN_BY.is_not(None), _UNKNOWN_BY),
    (_TOKEN_MISSING_SINCE.is_not(None), TOKEN_MISSING),
    (IS_RENEWAL_LOST, RENEWAL_LOST),
    else_="",
)
"""Of a statement about connections that is joined to their tokens, where they have any."""
