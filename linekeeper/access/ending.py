"""How a login ended, and in which words operators read of it. Pure."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from linekeeper.access.match import Match
from linekeeper.access.owner import Login

Ended = Literal[
    "done",
    "no_state",
    "forged",
    "too_late",
    "too_often",
    "used",
    "ended",
    "observed",
    "denied",
    "other_system",
    "unproven",
    "refused",
    "system_away",
    "away",
    "unlisted",
    "checking",
]


@dataclass(frozen=True, slots=True)
class Ending:
    """How a callback ended, in facts the page is written from; no secret is in it."""

    how: Ended
    system: str = ""
    """What was asked for."""
    came: str = ""
    """What was logged in to, where it is something else."""
    is_theirs: bool = False
    """Whether that is known as the customer's own; else no customer reads what it is."""
    mail: str = ""
    """The e-mail that `came` was logged in to with, where nothing else is different."""
    mail_before: str = ""
    connect_url: str | None = None
    """The link, where it still works."""
    has_expired: bool = False
    """It has ended since the customer followed it."""
    customer_id: str | None = None
    """Whose link it is, where that is known."""
    used_link: str = ""
    """The link's id, where an earlier login used it up."""
    was_lost: bool = False
    """The login replaces one that was lost: what changed meanwhile is fetched."""
    is_kept: bool = False
    """The login could not be verified yet; it is kept, and verified without anybody's help."""
    why: str = ""
    """Why Makini could not be asked, for operators: no customer reads it."""


def after(ending: Ending, expires_at: datetime, now: datetime) -> Ending:
    """`ending` as it is at `now`: a link that has expired by then is no longer offered. Pure."""
    if ending.connect_url is None or now < expires_at:
        return ending
    return replace(ending, connect_url=None, has_expired=True)


ASSUMED = (
    "Makini's status calls the connection of this login by a new id or names none, and its list "
    "shows no new connection. It was taken for the same connection. If its records come under new "
    "keys, deletions are held: decide about them with deletions"
)
"""What is said where nothing shows which connection a login is of."""


def how_it_ended(match: Match, owner: str | None, login: Login, *, is_lost: bool = False) -> Ended:
    """How an attempt ended whose pair, if we know whose it is, is stored; `is_lost` is whether the
    login counts as lost all the same. Pure."""
    if owner is None and login.away is not None:
        return "away"
    if match.kind == "unlisted":
        return "unlisted"
    if match.kind == "other":
        return "other_system"
    # It may be left from before the login, until Makini's next sync: the next probe decides.
    return "unproven" if is_lost or login.status.sync_status == "fail" else "done"


def why_not(how: Ended, login: Login, match: Match, came: str) -> str:
    """Why an attempt did not end well, where `came` is what was logged in to; empty where it did.
    Pure."""
    if how == "other_system" and match.mail_before:
        mails = f"with {login.status.email or 'no e-mail'} instead of {match.mail_before}"
        return (
            f"it was {came} {mails}, which may be another one; if it took the "
            "place of this one, disconnect this one (the next sweep takes the new one in)"
        )
    if how == "other_system":
        return f"it was another system, {came}"
    if how == "unlisted":
        return "nothing that Makini says shows yet which connection it is of"
    if how == "unproven":
        return "the new login is kept, but Makini still says that the system refuses it"
    return login.away.brief if login.away is not None else ""
