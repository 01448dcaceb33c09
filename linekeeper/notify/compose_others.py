"""Other messages than an incident's own: one about several, a reminder, an escalation. Pure."""

from collections.abc import Sequence
from datetime import datetime

from slack_sdk.models.blocks import Block, ContextBlock, HeaderBlock, SectionBlock

from linekeeper.incidents import kinds as words
from linekeeper.notify.compose import (
    HEADER_LIMIT,
    SECTION_LIMIT,
    Rendered,
    light,
    mrkdwn,
    owners_of,
    rendered,
    sections,
)
from linekeeper.notify.merged import FLEET
from linekeeper.notify.steps import Step
from linekeeper.notify.view import IncidentView, Links, MemberView
from linekeeper.text import Mrkdwn, Pen, Plain, counted, duration, shown, width

_SHOWN = 60
_NAME = 120
_NAMES = 2_500
_MEMBERS = 5
"""How many connections of an incident its line names."""
_NO_LINKS = Links()


def group(kind: str, views: Sequence[IncidentView], *, links: Links = _NO_LINKS) -> Rendered:
    """The message about `views`, as it should read now: open ones first, oldest first."""
    pen = Mrkdwn()
    headline = f"{_light(views)} {_headline(kind, views)}"
    lines = _lines(views, pen, links)
    blocks: list[Block] = [HeaderBlock(text=shown(headline, HEADER_LIMIT)), *sections(lines)]
    if (url := links.artifact(FLEET)) and width(url) < SECTION_LIMIT:
        blocks.append(ContextBlock(elements=[mrkdwn(pen.link(url, "Fleet"))]))
    return rendered(headline, blocks)


def plain_group(kind: str, views: Sequence[IncidentView], *, links: Links = _NO_LINKS) -> str:
    """The same for logs and other channels."""
    return "\n".join([_headline(kind, views), *_lines(views, Plain(), links)])


def _headline(kind: str, views: Sequence[IncidentView]) -> str:
    count = counted(len(views), "incident")
    still = sum(incident_view.resolved_at is None for incident_view in views)
    is_known = not any(incident_view.is_unwatched for incident_view in views)
    state = f"{still} still open" if still else "all resolved" if is_known else "none open"
    if kind == "morning":
        return f"Quiet-hours summary: {count}, {state}"
    if kind == "over":
        were = "was" if len(views) == 1 else "were"
        return f"{count} that {were} over before anybody could be notified here: {state}"
    return f"{count} in one message, because the hour's limit of messages is reached: {state}"


def _light(views: Sequence[IncidentView]) -> str:
    still = [incident_view for incident_view in views if incident_view.resolved_at is None]
    return light(still[0]) if still else ":large_green_circle:"


def _lines(views: Sequence[IncidentView], pen: Pen, links: Links) -> list[str]:
    ordered = sorted(
        views,
        key=lambda incident_view: (
            incident_view.resolved_at is not None,
            incident_view.opened_at,
            incident_view.id,
        ),
    )
    lines = [_line(incident_view, pen, links) for incident_view in ordered[:_SHOWN]]
    if len(ordered) > _SHOWN:
        lines.append(f"and {len(ordered) - _SHOWN} more")
    return lines


def _headlined(view: IncidentView) -> str:
    headline = words.headline(view.kind)
    return f" — {headline}" if headline else ""


def _affected(view: IncidentView, pen: Pen) -> str:
    """Which connections it is about, where its title does not name the one that it is."""
    affected = [member for member in view.members if member.left_at is None][:_MEMBERS]
    if len(affected) == 1 and affected[0].label in view.title:
        return ""
    rest = view.member_count - view.recovered_count - len(affected)
    names = ", ".join(pen.text(member.label, _NAME) for member in affected)
    return f"{names} and {rest} more" if rest > 0 else names


def _line(view: IncidentView, pen: Pen, links: Links) -> str:
    sign = f"{light(view)} " if isinstance(pen, Mrkdwn) else "- "
    what = f"{sign}{pen.text(view.title, _NAME)}{_headlined(view)}"
    if view.merged_into is not None:
        part = f"part of the incident of {pen.text(view.merged_into.name, _NAME)}"
        page = links.artifact(view.merged_into.page)
        line = " · ".join([what, part, *([pen.link(page, "Open")] if page else [])])
        return line if width(line) <= SECTION_LIMIT else f"{what} · {part}"
    if view.resolved_at is not None:
        ended = "ended as its app was removed," if view.is_unwatched else "resolved"
        return f"{what} · {ended} after {duration(view.resolved_at - view.since)}"
    whose = _affected(view, pen)
    parts = [f"{what} ({whose})" if whose else what, f"since {pen.moment(view.since)}"]
    if view.acknowledged_at is not None:
        parts.append(f"taken by {pen.person(view.acknowledged_by or 'somebody')}")
    else:
        owners = list(dict.fromkeys(member.owner for member in view.members if member.owner))
        parts += [pen.person(owner) for owner in owners[:1]]
        if form := links.form("acknowledge", {"incident": view.id}):
            parts.append(pen.link(form, "Acknowledge"))
    line = " · ".join(parts)
    return line if width(line) <= SECTION_LIMIT else " · ".join(parts[:2])


def reminder(view: IncidentView, step: Step, why: str, *, now: datetime) -> Rendered:
    """A reminder or an escalation, in the thread: it calls those who own it."""
    pen = Mrkdwn()
    written = f"{_calling(view, step, why, pen, now)}\n{owners_of(view, pen)}"
    return rendered(written, [SectionBlock(text=mrkdwn(written))])


def joined(view: IncidentView, names: str) -> Rendered:
    """Who joined it, for the thread of a message that has only one line about it."""
    pen = Mrkdwn()
    written = f"{pen.text(view.title, _NAME)}{_headlined(view)}\nJoined: {pen.text(names, _NAMES)}"
    return rendered(written, [SectionBlock(text=mrkdwn(written))])


def counts_subject(view: IncidentView) -> str:
    """What the reply that counts is kept under: each opening of an incident has its own."""
    return f"counts:{view.id}:{view.since:%Y%m%d%H%M%S}"


def affected(view: IncidentView, *, is_titled: bool) -> Rendered:
    """Whom an incident of many affects by now: the reply of its thread that is edited.

    `is_titled`: it names the incident, under a message that has only one line about it.
    """
    pen = Mrkdwn()
    written = "\n".join(_counted(view, pen))
    if is_titled:
        written = f"{pen.text(view.title, _NAME)}{_headlined(view)}\n{written}"
    return rendered(written, [SectionBlock(text=mrkdwn(written))])


def _counted(view: IncidentView, pen: Pen) -> list[str]:
    """How many joined by now, the first of them by name, and who is out of it again."""
    now = view.member_count - view.recovered_count
    still = [member for member in view.members if member.left_at is None]
    gone = [member for member in view.members if member.left_at is not None]
    joined = f"Joined: {counted(view.member_count, 'connection')} so far"
    if view.resolved_at is not None or not now:
        return [f"{joined}; none of them is affected any more"]
    lines = [f"{joined}; {now} of them affected now: {_some(still, now, pen)}"]
    if view.recovered_count:
        names = _some(gone, view.recovered_count, pen)
        lines.append(
            f"Not affected any more: {view.recovered_count}{f' ({names})' if gone else ''}"
        )
    return lines


def _some(members: Sequence[MemberView], of: int, pen: Pen) -> str:
    names = ", ".join(pen.text(member.label, _NAME) for member in members)
    return names if of <= len(members) else f"{names} and {of - len(members)} more"


def plain_reminder(view: IncidentView, step: Step, why: str, *, now: datetime) -> str:
    """The same for logs and other channels."""
    return _calling(view, step, why, Plain(), now)


def _calling(view: IncidentView, step: Step, why: str, pen: Pen, now: datetime) -> str:
    lead = {
        "escalation": ":rotating_light: Escalated",
        "first": "New",
        "reopened": ":rotating_light: Reopened",
        "worse": ":rotating_light: Worse",
        "resolved": "Resolved" if view.merged_into is None else "Part of a wider incident",
        "joined": "More connections",
    }.get(step.kind, f"Reminder {step.number}")
    if not isinstance(pen, Mrkdwn):
        lead = lead.rpartition(": ")[2]
    lasting = duration((view.resolved_at or now) - view.since)
    headline = words.headline(view.kind)
    what = f"{pen.text(view.title)}" + (f" {headline}" if headline else "")
    return f"{lead}: {what}, for {lasting} ({pen.text(why)})"
