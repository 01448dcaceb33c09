"""Telling people: what is said about an incident, and how it reaches Slack."""

from linekeeper.notices.announce import announce, say
from linekeeper.notices.changes import IncidentChange
from linekeeper.notices.deliver import Delivered, deliver_due
from linekeeper.notices.events import About, connection_event
from linekeeper.notices.queries import load_views
from linekeeper.notices.view import IncidentView, Links, MemberView

__all__ = [
    "About",
    "Delivered",
    "IncidentChange",
    "IncidentView",
    "Links",
    "MemberView",
    "announce",
    "connection_event",
    "deliver_due",
    "load_views",
    "say",
]
