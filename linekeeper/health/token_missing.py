"""A new connection that the customer made at Makini itself, whose token Linekeeper does not have.

It stands in the place of one whose token Linekeeper had, so the product gets none any more. What
Makini says of it is of no use to anybody before a token of it works: nothing but a call with one
ends that (`makinis_word.without_token`). Pure.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from linekeeper.health.evidence import Observation, Outcome

TOKEN_MISSING = "token_missing"  # noqa: S105 - a cause, no token
"""What an incident of a lost login is called by whose connection waits for its token."""


def needs_login(at: datetime, *, tried: bool) -> Observation:
    """What is learned of such a connection of which Makini gives no token either; `tried` is
    whether it was asked for one just now."""
    return Observation(
        at=at,
        source="list",
        outcome=Outcome.login_lost,
        unread=True,
        tried=tried,
        message="Makini lists this new connection in place of the one before. Linekeeper has no "
        "token of it, and none is minted: a login by the connect link brings one",
    )


def is_tried_anew(at: datetime) -> Observation:
    """What is learned of such a connection while nobody has asked for its token yet."""
    return Observation(
        at=at,
        source="list",
        outcome=Outcome.strange,
        unread=True,
        message="Makini lists this new connection in place of the one before. Linekeeper has no "
        "token of it yet, and asks for one",
    )


def is_token_missing(judged: Mapping[str, Any]) -> bool:
    """Whether it is such a connection, by what the table holds of it (`evidence.load`)."""
    return judged.get("token_missing_since") is not None
