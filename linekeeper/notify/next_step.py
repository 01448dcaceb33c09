"""What happens next about incidents that go on elsewhere or are about several customers. Pure."""

from collections.abc import Sequence

from linekeeper.notify.merged import FLEET, Wider
from linekeeper.notify.view import IncidentView, Links, MemberView
from linekeeper.text import Pen


def follow(wider: Wider, pen: Pen, links: Links) -> str:
    """The sentences behind *Next step* of an incident that goes on in another one."""
    page = links.artifact(wider.page)
    if page is None:
        return "Follow the message of that incident."
    shown = pen.link(page, "Fleet" if wider.page == FLEET else "History")
    return f"Follow the message of that incident; the page {shown} shows it too."


def several(view: IncidentView, pen: Pen, links: Links) -> str:
    """The sentences behind *Next step*."""
    waiting = [member for member in view.members if member.is_mailed is not None]
    if not waiting:
        return without_links(view.members)
    page = links.artifact(f"reconnect-{view.id}")
    where = f", which are on {pen.link(page, 'this page')}" if page else ""
    if all(member.is_mailed for member in waiting):
        asked = f"The customers log in through the connect links they are mailed{where}."
    elif any(member.is_mailed for member in waiting):
        asked = f"Pass the connect links on to those who are not mailed theirs{where}."
    else:
        asked = f"Pass the connect links on{where}: Linekeeper mails them to nobody."
    return (
        f"{asked} Of each that is used, Linekeeper verifies the login and fetches what was missed."
    )


def without_links(members: Sequence[MemberView]) -> str:
    """The sentences where there is no connect link, for one connection or several."""
    who = "The customer has" if len(members) == 1 else "The customers have"
    works = "the login" if len(members) == 1 else "the login of each"
    observed = [member.is_observed for member in members if member.left_at is None]
    links = ""
    if observed and all(observed):
        links = " through a link of yours: in mode observe Linekeeper makes none"
    elif observed and not any(each is None or each for each in observed):
        links = ". The connect link follows here" if len(members) == 1 else ". Links follow here"
    return (
        f"{who} to log in again{links}. A probe that finds {works} working resolves this incident."
    )
