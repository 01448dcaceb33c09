"""A reminder, an escalation or an ending of an incident, as people read it. Pure."""

from datetime import datetime

from slack_sdk.models.blocks import SectionBlock

from linekeeper.incidents import kinds as words
from linekeeper.notify.compose import Rendered, mrkdwn, owners_of, rendered
from linekeeper.notify.view import IncidentView
from linekeeper.text import Mrkdwn, Pen, Plain, duration


def reminder(view: IncidentView, step: str, why: str, *, now: datetime) -> Rendered:
    """A reminder or an escalation, in the thread: it calls those who own it."""
    pen = Mrkdwn()
    written = f"{_calling(view, step, why, pen, now)}\n{owners_of(view, pen)}"
    return rendered(written, [SectionBlock(text=mrkdwn(written))])


def plain_reminder(view: IncidentView, step: str, why: str, *, now: datetime) -> str:
    """The same for logs and other channels."""
    return _calling(view, step, why, Plain(), now)


def _calling(view: IncidentView, step: str, why: str, pen: Pen, now: datetime) -> str:
    kind, _, number = step.partition(":")
    lead = {
        "escalation": ":rotating_light: Escalated",
        "first": "New",
        "reopened": ":rotating_light: Reopened",
        "resolved": "Resolved",
        "joined": "More connections",
    }.get(kind, f"Reminder {number}")
    if not isinstance(pen, Mrkdwn):
        lead = lead.rpartition(": ")[2]
    lasting = duration((view.resolved_at or now) - view.since)
    headline = words.headline(view.kind)
    what = f"{pen.text(view.title)}" + (f" {headline}" if headline else "")
    return f"{lead}: {what}, for {lasting} ({pen.text(why)})"
