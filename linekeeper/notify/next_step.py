"""What happens next about an incident, and who has to do something for it. Pure."""

from linekeeper.incidents import kinds as words
from linekeeper.notify.view import IncidentView, Links, MemberView
from linekeeper.text import Pen

_THEN = "verifies the login, backfills what was missed, and resolves this incident."
_FOUND_WORKING = "A probe that finds the login working resolves this incident."


def next_step(view: IncidentView, pen: Pen, links: Links) -> str:
    """The sentences behind *Next step*."""
    if view.resolved_at is None and view.kind == "reauthorization_required":
        return _one(view, view.only, pen) if view.only else _several(view, pen, links)
    return words.ahead(view.kind, resolved=view.resolved_at is not None)


def _one(view: IncidentView, only: MemberView, pen: Pen) -> str:
    """Who brings the link to the customer: Linekeeper's mail, or whoever reads this."""
    if (kept := only.login_kept) is not None:
        while_away = " while the system did not answer Makini" if kept.is_system_away else ""
        return (
            f"Somebody logged in {pen.moment(kept.at)}{while_away}. That login is kept: "
            "Linekeeper verifies it automatically as soon as it gets an answer, backfills "
            "what was missed, and resolves this incident."
        )
    if view.connect_url is None:
        return (
            "The customer has to log in again. In mode manage the connect link for it "
            f"follows here; in observe Linekeeper makes none. {_FOUND_WORKING}"
        )
    if only.is_mailed:
        return f"The customer logs in through the connect link they are mailed. Linekeeper {_THEN}"
    return (
        "Pass the connect link on to the customer: Linekeeper mails it to nobody. Once somebody "
        f"has logged in through it, Linekeeper {_THEN}"
    )


def _several(view: IncidentView, pen: Pen, links: Links) -> str:
    waiting = [member for member in view.members if member.is_mailed is not None]
    if not waiting:
        return (
            "The customers have to log in again. In mode manage there is a connect link for each; "
            f"in observe Linekeeper makes none. {_FOUND_WORKING}"
        )
    page = links.artifact(f"reconnect-{view.id}")
    where = f", which are on {pen.link(page, 'this page')}" if page else ""
    if all(member.is_mailed for member in waiting):
        asked = f"The customers log in through the connect links they are mailed{where}."
    elif any(member.is_mailed for member in waiting):
        asked = f"Pass the connect links on to those who are not mailed theirs{where}."
    else:
        asked = f"Pass the connect links on{where}: Linekeeper mails them to nobody."
    return (
        f"{asked} Of each that is used Linekeeper verifies the login and backfills what was missed."
    )
