"""An incident as people read it: Slack's blocks, or plain text. Pure; Slack's limits hold here.

Every text from outside goes through a pen of `linekeeper.text`, which bounds its length;
lines are packed whole into sections; so no message can be too long, whatever a customer is called.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from slack_sdk.models.blocks import (
    Block,
    ContextBlock,
    HeaderBlock,
    MarkdownTextObject,
    SectionBlock,
)

from linekeeper.incidents import kinds as words
from linekeeper.notify.buttons import buttons
from linekeeper.notify.merged import FLEET
from linekeeper.notify.next_step import AFTER_LOGIN, WITHOUT_LINK, follow, several, through_link
from linekeeper.notify.view import MEMBERS_SHOWN, IncidentView, Links, MemberView, overview_of
from linekeeper.text import (
    Mrkdwn,
    Pen,
    Plain,
    duration,
    health_name,
    letters,
    shown,
    width,
    without_angles,
)

SECTION_LIMIT = 3_000
HEADER_LIMIT = 150
_MESSAGE_LIMIT = 300
_FOUND_LIMIT = 1_000
_RESPONSE = "Makini's response"
_TITLE_SHOWN = 110
"""The header has only this many characters of a title; a longer one is repeated below, while it is
so."""
_OWNERS_SHOWN = 5
_RED, _YELLOW, _GREEN = ":red_circle:", ":large_yellow_circle:", ":large_green_circle:"
_WHITE = ":white_circle:"
_NO_LINKS = Links()


@dataclass(frozen=True, slots=True)
class Rendered:
    """A message for Slack: `text` is what notifications and screen readers get."""

    text: str
    blocks: Sequence[dict[str, Any]] = field(default=())
    least: str = "Slack refuses the text of this message."
    """What is said where Slack refuses `text` for what it says."""


def incident(view: IncidentView, *, now: datetime, links: Links = _NO_LINKS) -> Rendered:
    """The incident's one message, as it should read now."""
    pen = Mrkdwn()
    sign = light(view)
    headline = _headline(view)
    room = HEADER_LIMIT - len(sign) - len(headline) - 1
    title = shown(view.title, room, escape=without_angles)
    lines = [*_what(view, pen, now), *_members(view, pen), *_ahead(view, pen, links)]
    blocks: list[Block] = [HeaderBlock(text=f"{sign} {title}{headline}"), *sections(lines)]
    shortcuts = [link for link in _links(view, links, pen) if width(link) <= SECTION_LIMIT]
    if shortcuts:
        blocks.append(ContextBlock(elements=[mrkdwn(link) for link in shortcuts]))
    if links.buttons and view.resolved_at is None:
        blocks.append(buttons(view))
    since = _since(view, pen, now)
    whole = rendered(f"{sign} {pen.text(view.title)}{headline}\n{since}", blocks)
    return replace(whole, least=f"{sign} {whole.least} The fleet page has it.")


def plain(view: IncidentView, *, now: datetime, links: Links = _NO_LINKS) -> str:
    """The same for logs, `linekeeper status` and runs."""
    pen = Plain()
    lines = [
        f"[{_state(view)}] {pen.text(view.title)}{_headline(view)}",
        *_what(view, pen, now),
        *_members(view, pen),
        *_ahead(view, pen, links),
        *_links(view, links, pen),
    ]
    return "\n".join(lines)


def ours(text: str) -> Rendered:
    """A text in Slack's own mrkdwn, written by us; what is too long for one section is packed."""
    return rendered(text[:SECTION_LIMIT], sections(text.split("\n")))


def note(text: str, page: str | None = None) -> Rendered:
    """A text of its own, or an entry of a timeline; `page` is where more of it is."""
    pen = Mrkdwn()
    written = pen.text(text, SECTION_LIMIT, keep_lines=True) or "(nothing)"
    blocks: list[Block] = [SectionBlock(text=mrkdwn(written))]
    if page is not None:
        blocks.append(ContextBlock(elements=[mrkdwn(pen.link(page, "Open in Prefect"))]))
    return rendered(written, blocks)


def _headline(view: IncidentView) -> str:
    if view.merged_into is not None:
        return " — continued in another incident"
    if view.resolved_at is not None:
        return " — ended as its app was removed" if view.is_unwatched else " — resolved"
    headline = words.headline(view.kind)
    return f" — {headline}" if headline else ""


def _state(view: IncidentView) -> str:
    if view.merged_into is not None:
        return "MERGED"
    if view.resolved_at is not None:
        return "ENDED" if view.is_unwatched else "RESOLVED"
    return "ACKNOWLEDGED" if _taken(view) else "OPEN"


def light(view: IncidentView) -> str:
    """The colour its state has everywhere."""
    if view.merged_into is not None:
        return _WHITE
    if view.resolved_at is not None:
        return _WHITE if view.is_unwatched else _GREEN
    return _YELLOW if _taken(view) or view.kind == "degraded" else _RED


def _taken(view: IncidentView) -> bool:
    return view.acknowledged_at is not None


def _what(view: IncidentView, pen: Pen, now: datetime) -> list[str]:
    lines = []
    only = view.only
    scope = "provider" if view.share is not None and view.share.is_cause else view.scope
    meaning = words.meaning(view.kind, view.why, "connection" if only else scope)
    is_more = view.summary and (len(view.title) > _TITLE_SHOWN or view.says_more)
    if view.resolved_at is None and (meaning or is_more):
        problem = meaning or pen.text(view.summary[:1].upper() + view.summary[1:], _FOUND_LIMIT)
        lines.append(f"{pen.strong('Problem')} {problem}")
    if root_cause := _root_cause(view, pen):
        lines.append(f"{pen.strong('Root cause')} {root_cause}")
    lines.append(_since(view, pen, now))
    if whose := owners_of(view, pen):
        lines.append(f"{pen.strong('Owner')} {whose}")
    if _taken(view) and view.acknowledged_at is not None:
        by = f" by {pen.person(view.acknowledged_by)}" if view.acknowledged_by else ""
        lines.append(f"{pen.strong('Acknowledged')} {pen.moment(view.acknowledged_at)}{by}")
    if view.resolved_at is None and (until := view.snoozed_until) and until > now:
        lines.append(f"{pen.strong('Snoozed')} until {pen.moment(until)}")
    evidence = _evidence(view.code, view.message, view.request_id, pen)
    if evidence:
        lines.append(f"{pen.strong(_RESPONSE)} {evidence}")
    return lines


def _root_cause(view: IncidentView, pen: Pen) -> str:
    if view.only is not None or view.scope not in ("provider", "app"):
        return ""
    if view.share is not None and view.share.is_cause:
        return view.share.words(pen)
    if view.scope == "app" and not view.members:
        return ""
    is_over = view.resolved_at is not None
    return words.cause_in_words(view.scope, view.app, view.provider, is_over=is_over, pen=pen)


def _since(view: IncidentView, pen: Pen, now: datetime) -> str:
    if view.resolved_at is None:
        lasting = "" if isinstance(pen, Mrkdwn) else f" ({duration(now - view.since)})"
        return f"{pen.strong('Since')} {pen.moment(view.since)}{lasting}{_first_opened(view, pen)}"
    lasted = duration(view.resolved_at - view.since)
    if view.merged_into is not None:
        return (
            f"{pen.strong('Merged')} {pen.moment(view.resolved_at)} into "
            f"the incident of {pen.text(view.merged_into.name)} (since {pen.moment(view.since)})"
        )
    ended, why = ("Ended", ", as its app was removed") if view.is_unwatched else ("Resolved", "")
    return (
        f"{pen.strong(ended)} {pen.moment(view.resolved_at)}{why}, after {lasted} "
        f"(since {pen.moment(view.since)}){_first_opened(view, pen)}"
    )


def _first_opened(view: IncidentView, pen: Pen) -> str:
    if view.reopened_at is None:
        return ""
    return f", reopened (first opened {pen.moment(view.opened_at)})"


def owners_of(view: IncidentView, pen: Pen) -> str:
    """Who owns it, and is to be called; empty where it is about no connection."""
    owners = list(dict.fromkeys(member.owner for member in view.members if member.owner))
    named = ", ".join(pen.person(owner) for owner in owners[:_OWNERS_SHOWN])
    if len(owners) > _OWNERS_SHOWN:
        named += f" and {len(owners) - _OWNERS_SHOWN} more"
    nobody = f"no owner is set for the customer{'s' if len(view.members) > 1 else ''}"
    return named or (nobody if view.members else "")


def _members(view: IncidentView, pen: Pen) -> list[str]:
    if not view.members:
        return []
    if view.member_count <= 1:
        return _only_member(view.members[0], pen)
    affected = view.member_count - view.recovered_count
    is_partly = view.recovered_count and view.resolved_at is None
    state = f", {affected} still affected" if is_partly else ""
    lines = [f"{pen.strong('Affected')} {view.member_count} connections{state}"]
    lines += [f"• {_member(member, view, pen)}" for member in view.members[:MEMBERS_SHOWN]]
    if view.member_count > len(view.members):
        lines.append(f"and {view.member_count - len(view.members)} more")
    return lines


def _only_member(member: MemberView, pen: Pen) -> list[str]:
    parts = [*_naming(member, pen), f"Makini key {pen.code(member.makini_key)}"]
    lines = [f"{pen.strong('Affected')} {' · '.join(parts)}"]
    if before := _before(member):
        lines.append(f"{pen.strong('Before that')} {before}")
    evidence = _evidence(member.code, member.message, member.request_id, pen)
    if evidence and member.left_at is None:
        lines.append(f"{pen.strong(_RESPONSE)} {evidence}")
    return lines


def _member(member: MemberView, view: IncidentView, pen: Pen) -> str:
    parts = _naming(member, pen, but=view.provider if view.scope == "provider" else "")
    if member.left_at is not None and view.resolved_at is None:
        parts.append(pen.text(words.left_for(member.left_for)))
    elif member.kind != view.kind:
        parts.append(pen.text(health_name(member.kind)))
    if before := _before(member):
        parts.append(f"before that {before}")
    if member.login_kept is not None and view.resolved_at is None:
        parts.append(f"logged in {pen.moment(member.login_kept.at)}, not verified yet")
    evidence = _evidence(member.code, member.message, member.request_id, pen)
    if evidence and member.left_at is None:
        parts.append(evidence)
    return " · ".join(parts)


def _before(member: MemberView) -> str:
    """What was wrong with a connection before it disappeared: that is not over."""
    if member.kind != "disconnected" or member.left_at is not None or member.health == "healthy":
        return ""
    return health_name(member.health)


def _naming(member: MemberView, pen: Pen, *, but: str = "") -> list[str]:
    parts = [pen.text(member.label)]
    is_said = letters(member.provider) in letters(member.label)
    if member.provider != but and not is_said:
        parts.append(pen.text(member.provider))
    if member.critical:
        parts.append("critical customer")
    return parts


def _evidence(code: str | None, message: str | None, request_id: str | None, pen: Pen) -> str:
    parts = []
    if code:
        parts.append(pen.code(code))
    if message and message != code:
        parts.append(pen.text(message, _MESSAGE_LIMIT))
    if request_id and not any(request_id in part for part in parts):
        parts.append(f"(request {pen.code(request_id)})")
    return " ".join(parts)


def _ahead(view: IncidentView, pen: Pen, links: Links) -> list[str]:
    if view.merged_into is not None:
        return [f"{pen.strong('Next step')} {follow(view.merged_into, pen, links)}"]
    return [f"{pen.strong('Next step')} {_next_step(view, pen, links)}"]


def _next_step(view: IncidentView, pen: Pen, links: Links) -> str:
    """What happens next; of a lost login also who brings the customer the link."""
    is_over = view.resolved_at is not None
    if is_over or view.kind != "reauthorization_required":
        ahead = words.ahead(view.kind, view.why, view.scope)
        return words.after(unwatched=view.is_unwatched) if is_over else ahead
    if (only := view.only) is None:
        return several(view, pen, links)
    if (kept := only.login_kept) is not None:
        while_away = " while the system did not answer Makini" if kept.is_system_away else ""
        return (
            f"Somebody logged in {pen.moment(kept.at)}{while_away}. That login is kept: as soon "
            f"as it gets an answer, Linekeeper automatically {AFTER_LOGIN}"
        )
    return WITHOUT_LINK[only.is_observed] if view.connect_url is None else through_link(only)


def _links(view: IncidentView, links: Links, pen: Pen) -> list[str]:
    only = view.only
    overview, page = overview_of(view.kind)
    offered = [
        ("Run", links.run(view.run_id)),
        ("History", links.artifact(f"connection-{only.slug}") if only else None),
        ("Fleet", links.artifact(FLEET)),
        (overview, links.artifact(page)),
        ("Explain", links.form("explain", {"subject": view.id})),
    ]
    if view.resolved_at is None:
        if only is None or only.is_mailed is not None:
            offered.append(("Connect link for the customer", view.connect_url))
        if only:
            offered.append(
                ("Check now", links.form("check-connection", {"connection": only.connection_id}))
            )
        if view.kind == "reauthorization_required":
            offered.append(("Reconnect", links.form("reconnect", {"incident": view.id})))
        if not _taken(view) and not links.buttons:
            offered.append(("Acknowledge", links.form("acknowledge", {"incident": view.id})))
    return [pen.link(url, label) for label, url in offered if url is not None]


def sections(lines: Sequence[str]) -> list[SectionBlock]:
    """`lines` packed whole into as few sections as hold them."""
    packed: list[str] = []
    for line in lines:
        if packed and width(packed[-1]) + 1 + width(line) <= SECTION_LIMIT:
            packed[-1] += f"\n{line}"
        else:
            packed.append(line)
    return [SectionBlock(text=mrkdwn(text)) for text in packed]


def mrkdwn(text: str) -> MarkdownTextObject:
    """A text; `verbatim` keeps Slack from making links and mentions of what it finds in it."""
    return MarkdownTextObject(text=text, verbatim=True)


def rendered(text: str, blocks: Sequence[Block]) -> Rendered:
    """A message of `blocks`, as Slack takes them."""
    return Rendered(text, [block.to_dict() for block in blocks])
