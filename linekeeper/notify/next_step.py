"""What happens next about incidents that go on elsewhere or are about several customers. Pure."""

from linekeeper.notify.merged import FLEET, Wider
from linekeeper.notify.view import IncidentView, Links
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
        return (
            "The customers have to log in again. In mode manage there is a connect link for each; "
            "in observe Linekeeper makes none. A probe that finds the login of each working "
            "resolves this incident."
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
        f"{asked} Of each that is used, Linekeeper verifies the login and fetches what was missed."
    )
