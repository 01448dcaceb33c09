"""What people press and fill in in Slack, through whichever door it comes (HTTP or the socket).

What was pressed is done in our database; the message itself is edited by the outbox, as always.
Slack may deliver a press twice, and both doors may be open: the same press is done once.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from linekeeper.clock import utcnow, zone_of
from linekeeper.config import SlackConfig
from linekeeper.incidents.operate import NoIncident, acknowledge, note, snooze
from linekeeper.makini import ReadOnlyApp
from linekeeper.notify import compose
from linekeeper.notify.buttons import (
    ACKNOWLEDGE,
    AGAIN,
    NOTE,
    SNOOZE,
    Submitted,
    dialog,
    pressed,
    submitted,
)
from linekeeper.notify.refusals import SlackTrouble
from linekeeper.notify.routing import channels_of
from linekeeper.notify.slack_person import answer_member, open_view
from linekeeper.notify.view import load_views
from linekeeper.reconnect.ask import send_again
from linekeeper.runtime import Runtime, UnknownApp
from linekeeper.store import is_id

log = logging.getLogger(__name__)
_NOTHING_MORE = (NoIncident, ReadOnlyApp, UnknownApp)
"""After these nothing is to do; the person reads why."""
_LONGEST = 150


@dataclass(frozen=True, slots=True)
class SlackReply:
    """What Slack is answered, and what is to be done once it has its answer."""

    body: Mapping[str, Any] | None = None
    afterwards: Callable[[], Awaitable[None]] | None = None


async def interact(rt: Runtime, payload: Mapping[str, Any]) -> SlackReply:
    """Do what was pressed or submitted.

    Errors of the database pass through: then Slack is to be given no answer, so that the person
    sees that nothing was done.
    """
    user = payload.get("user")
    person = user if isinstance(user, Mapping) else {}
    by = _person(person)
    if payload.get("type") == "view_submission":
        view = payload.get("view")
        given = submitted(view) if isinstance(view, Mapping) else None
        if given is None or not isinstance(view, Mapping):
            return SlackReply()
        refused = await _take(rt, given, by, press=f"{view.get('id')}:{view.get('hash', '')}")
        return SlackReply({"response_action": "errors", "errors": refused} if refused else None)
    actions = payload.get("actions")
    to_open, answer = "", ""
    for action in actions if isinstance(actions, list) else []:
        what = pressed(action) if isinstance(action, Mapping) else None
        if what is None:
            continue
        name, incident_id = what
        if name == ACKNOWLEDGE:
            answer = await _acknowledge(rt, incident_id, by)
        else:
            to_open = incident_id
    if to_open:
        trigger = str(payload.get("trigger_id", ""))
        return SlackReply(afterwards=partial(_open, rt, to_open, trigger))
    where = payload.get("channel")
    channel = str(where.get("id", "")) if isinstance(where, Mapping) else ""
    member = str(person.get("id", ""))
    if answer and channel and member:
        return SlackReply(afterwards=partial(_answer, rt, channel, member, answer))
    return SlackReply()


async def _acknowledge(rt: Runtime, incident_id: str, by: str) -> str:
    """Returns the answer for the person: nothing where it is theirs now."""
    try:
        said = await acknowledge(rt.store, incident_id, by=by, now=utcnow())
    except NoIncident as reason:
        log.info("nothing to do for what was pressed in Slack: %s", reason)
        return str(reason)
    views = await load_views(rt.store, [incident_id])
    return "" if views[incident_id].acknowledged_by == by else said


async def _take(rt: Runtime, given: Submitted, by: str, *, press: str) -> dict[str, str]:
    """Do what was filled in; why a part of it was not done, by the field of the dialog.

    What may be refused comes first: nothing else is done then, so that the person sees it and
    decides, and the same dialog is saved again.
    """
    store, incident_id, now = rt.store, given.incident_id, utcnow()
    parts: list[tuple[str, Callable[[], Awaitable[str]]]] = []
    if given.is_link_wanted:
        sending = partial(send_again, rt, incident_id, by=by, now=now, press=press)
        parts.append((AGAIN, sending))
    if given.snooze:
        zone = zone_of((await rt.configuration()).alerts.time_zone)
        snoozing = partial(snooze, by=by, now=now, zone=zone, press=press)
        parts.append((SNOOZE, partial(snoozing, store, incident_id, given.snooze)))
    if given.note:
        noting = partial(note, store, incident_id, given.note, by=by, now=now, press=press)
        parts.append((NOTE, noting))
    for field, doing in parts:
        try:
            await doing()
        except _NOTHING_MORE as reason:
            log.info("nothing to do for what was filled in in Slack: %s", reason)
            return {field: str(reason)[:_LONGEST]}
    return {}


async def _open(rt: Runtime, incident_id: str, trigger: str) -> None:
    """Open the dialog; a trigger lives for three seconds, so it isn't tried again."""
    views = await load_views(rt.store, [incident_id] if is_id(incident_id) else [])
    if incident_id not in views:
        return
    shown = dialog(views[incident_id])
    await _somewhere(rt, lambda slack: open_view(slack, trigger, shown), "the dialog")


async def _answer(rt: Runtime, channel: str, member: str, text: str) -> None:
    """Answer the person alone, why nothing changed."""
    said = compose.note(text)
    await _somewhere(rt, lambda slack: answer_member(slack, channel, member, said), "the answer")


async def _somewhere(
    rt: Runtime, doing: Callable[[SlackConfig], Awaitable[None]], what: str
) -> None:
    """Do it with the token of the Slack app whose message was pressed: only it may."""
    by_token = {
        channel.bot_token.get_secret_value(): channel
        for channel in channels_of(await rt.configuration()).values()
    }
    last: SlackTrouble | None = None
    for channel in by_token.values():
        try:
            await doing(channel)
        except SlackTrouble as trouble:
            last = trouble
        else:
            return
    if last is not None:
        log.warning("%s could not be shown in Slack: %s", what, last)


def _person(user: Mapping[str, Any]) -> str:
    name = user.get("username") or user.get("name") or user.get("id") or "somebody"
    return f"{str(name)[:80]} (Slack)"
