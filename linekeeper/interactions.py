"""What people press and fill in in Slack, through whichever door it comes (HTTP or the socket).

What was pressed is done in our database; the message itself is edited by the outbox, as always.
Slack may deliver a press twice, and both doors may be open: the same press is done once.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from linekeeper.clock import utcnow, zone_of
from linekeeper.config import Configuration
from linekeeper.incidents.operate import NoIncident, acknowledge, note, snooze
from linekeeper.makini import ReadOnlyApp
from linekeeper.notify.buttons import ACKNOWLEDGE, Submitted, dialog, pressed, submitted
from linekeeper.notify.refusals import SlackTrouble
from linekeeper.notify.routing import channels_of
from linekeeper.notify.slack_channel import open_view
from linekeeper.notify.view import load_views
from linekeeper.reconnect.ask import send_again
from linekeeper.runtime import Runtime, UnknownApp
from linekeeper.store import is_id

log = logging.getLogger(__name__)
_NOTHING_MORE = (NoIncident, ReadOnlyApp, UnknownApp)
"""After these nothing is to do: the message shows what is true, and is edited as that changes."""


async def interact(rt: Runtime, payload: Mapping[str, Any]) -> Callable[[], Awaitable[None]] | None:
    """Do what was pressed or submitted; returns what is to be done once Slack has its answer.

    Errors of the database pass through: then Slack is to be given no answer, so that the person
    sees that nothing was done.
    """
    user = payload.get("user")
    by = _person(user if isinstance(user, Mapping) else {})
    if payload.get("type") == "view_submission":
        view = payload.get("view")
        given = submitted(view) if isinstance(view, Mapping) else None
        if given is not None and isinstance(view, Mapping):
            await _take(rt, given, by, press=f"{view.get('id')}:{view.get('hash', '')}")
        return None
    actions = payload.get("actions")
    to_open = ""
    for action in actions if isinstance(actions, list) else []:
        what = pressed(action) if isinstance(action, Mapping) else None
        if what is None:
            continue
        name, incident_id = what
        if name == ACKNOWLEDGE:
            await _try(acknowledge(rt.store, incident_id, by=by, now=utcnow()))
        else:
            to_open = incident_id
    if not to_open:
        return None
    return partial(_open, rt, to_open, str(payload.get("trigger_id", "")))


async def _take(rt: Runtime, given: Submitted, by: str, *, press: str) -> None:
    now = utcnow()
    if given.note:
        noting = note(rt.store, given.incident_id, given.note, by=by, now=now, press=press)
        await _try(noting)
    if given.snooze:
        zone = zone_of((await rt.configuration()).alerts.time_zone)
        await _try(
            snooze(
                rt.store, given.incident_id, given.snooze, by=by, now=now, zone=zone, press=press
            )
        )
    if given.is_link_wanted:
        await _try(send_again(rt, given.incident_id, by=by, now=now, press=press))


async def _try(doing: Awaitable[str]) -> None:
    try:
        await doing
    except _NOTHING_MORE as reason:
        log.info("nothing to do for what was pressed in Slack: %s", reason)


async def _open(rt: Runtime, incident_id: str, trigger: str) -> None:
    """Open the dialog; a trigger lives for three seconds, so it isn't tried again."""
    views = await load_views(rt.store, [incident_id] if is_id(incident_id) else [])
    if incident_id not in views:
        return
    shown = dialog(views[incident_id])
    try:
        await _open_somewhere(await rt.configuration(), trigger, shown)
    except SlackTrouble as trouble:
        log.warning("the dialog could not be opened: %s", trouble)


async def _open_somewhere(
    configuration: Configuration, trigger: str, shown: Mapping[str, Any]
) -> None:
    """Open the dialog with the token of the Slack app whose message was pressed: only it may."""
    by_token = {
        channel.bot_token.get_secret_value(): channel
        for channel in channels_of(configuration).values()
    }
    last: SlackTrouble | None = None
    for channel in by_token.values():
        try:
            await open_view(channel, trigger, shown)
        except SlackTrouble as trouble:
            last = trouble
        else:
            return
    if last is not None:
        raise last


def _person(user: Mapping[str, Any]) -> str:
    name = user.get("username") or user.get("name") or user.get("id") or "somebody"
    return f"{str(name)[:80]} (Slack)"
