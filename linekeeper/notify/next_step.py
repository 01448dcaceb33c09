"""What happens next about an incident, as its message says. Pure."""

from collections.abc import Mapping, Sequence

from linekeeper.notify.merged import FLEET, Wider
from linekeeper.notify.view import IncidentView, Links, MemberView
from linekeeper.text import Pen, counted

_RESOLVES = "A probe that finds the login working resolves this incident."
AFTER_LOGIN = "verifies the login, backfills what was missed, and resolves this incident."
WITHOUT_LINK: Mapping[bool | None, str] = {
    True: "The customer has to log in again through a link of yours: in mode observe Linekeeper "
    f"makes none. {_RESOLVES}",
    False: f"The customer has to log in again. The connect link follows here. {_RESOLVES}",
    None: f"The customer has to log in again. {_RESOLVES}",
}
"""The sentences where there is no connect link, by whether the connection is observed."""

_ENDED_LINKS = (
    "The connect links do not work any longer. Call the customers, and send them new ones (run "
    "connect)."
)
_EACH_USED = "Of each that is used, Linekeeper verifies the login and fetches what was missed."


def through_link(only: MemberView) -> str:
    """The sentences behind *Next step* where a link was made for the lost login of `only`."""
    brought = {
        None: "The connect link does not work any longer. Call the customer, and send them a new "
        "one (run connect). Once somebody has logged in,",
        True: "The customer logs in through the connect link they are mailed.",
        False: "Pass the connect link on to the customer: Linekeeper mails it to nobody. Once "
        "somebody has logged in through it,",
    }
    return f"{brought[only.is_mailed]} Linekeeper {AFTER_LOGIN}"


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
    ended = [member for member in view.members if member.has_link_ended]
    if not waiting:
        return f"{_ENDED_LINKS} {_EACH_USED}" if ended else _without_links(view.members)
    page = links.artifact(f"reconnect-{view.id}")
    where = f", which are on {pen.link(page, 'this page')}" if page else ""
    if all(member.is_mailed for member in waiting):
        asked = f"The customers log in through the connect links they are mailed{where}."
    elif any(member.is_mailed for member in waiting):
        asked = f"Pass the connect links on to those who are not mailed theirs{where}."
    else:
        asked = f"Pass the connect links on{where}: Linekeeper mails them to nobody."
    if ended:
        asked += f" Of {counted(len(ended), 'connection')} the link does not work any longer: call "
        asked += "the customer, and send a new one (run connect)."
    return f"{asked} {_EACH_USED}"


def _without_links(members: Sequence[MemberView]) -> str:
    modes = {member.is_observed for member in members if member.left_at is None}
    [mode] = modes if len(modes) == 1 else [None]
    how = {
        True: " through links of yours: in mode observe Linekeeper makes none",
        False: ". The connect links follow here",
        None: "",
    }
    return (
        f"The customers have to log in again{how[mode]}. A probe that finds the login of each "
        "working resolves this incident."
    )
