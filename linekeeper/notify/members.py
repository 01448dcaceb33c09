"""The connections that an incident affects, as its message names them. Pure."""

from linekeeper.notify.view import IncidentView, MemberView
from linekeeper.text import Pen, health_name, letters

RESPONSE = "Makini's response"
_MESSAGE_LIMIT = 300


def only_member(member: MemberView, pen: Pen) -> list[str]:
    """The lines of an incident of one connection."""
    parts = [*_naming(member, pen), f"Makini key {pen.code(member.makini_key)}"]
    lines = [f"{pen.strong('Affected')} {' · '.join(parts)}"]
    if before := _before(member):
        lines.append(f"{pen.strong('Before that')} {before}")
    response = evidence(member.code, member.message, member.request_id, pen)
    if response and member.left_at is None:
        lines.append(f"{pen.strong(RESPONSE)} {response}")
    return lines


def member_line(member: MemberView, view: IncidentView, pen: Pen) -> str:
    """The line of one of several."""
    parts = _naming(member, pen, but=view.provider if view.scope == "provider" else "")
    if member.left_at is not None and view.resolved_at is None:
        parts.append(_left(member, pen))
    elif member.kind != view.kind:
        parts.append(pen.text(health_name(member.kind)))
    if before := _before(member):
        parts.append(f"before that {before}")
    if member.login_kept is not None and view.resolved_at is None:
        parts.append(f"logged in {pen.moment(member.login_kept.at)}, not verified yet")
    response = evidence(member.code, member.message, member.request_id, pen)
    if response and member.left_at is None:
        parts.append(response)
    return " · ".join(parts)


def _left(member: MemberView, pen: Pen) -> str:
    if member.left_for is None:
        return "recovered"
    if member.left_for == "disconnected":
        return member.left_for
    return f"moved to another incident: {pen.text(health_name(member.left_for))}"


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


def evidence(code: str | None, message: str | None, request_id: str | None, pen: Pen) -> str:
    """What Makini said; empty where it said nothing."""
    parts = []
    if code:
        parts.append(pen.code(code))
    if message and message != code:
        parts.append(pen.text(message, _MESSAGE_LIMIT))
    if request_id and not any(request_id in part for part in parts):
        parts.append(f"(request {pen.code(request_id)})")
    return " ".join(parts)
