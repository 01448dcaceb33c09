"""What a message would say, as plain text, where no Slack is configured."""

from collections.abc import Mapping
from datetime import datetime

from linekeeper.config import AppConfig
from linekeeper.notify import compose, compose_others
from linekeeper.notify.groups import load_group
from linekeeper.notify.renderer import InvalidMessage, needed
from linekeeper.notify.steps import step_in
from linekeeper.notify.view import IncidentView, Links, load_views
from linekeeper.outbox.sender import OutboxRow
from linekeeper.store.engine import Store


async def said(
    store: Store,
    row: OutboxRow,
    view: IncidentView | None,
    *,
    now: datetime,
    links: Links,
    apps: Mapping[str, AppConfig],
) -> str:
    """What `row` says; `view` is its incident. Raises `InvalidMessage`."""
    match row.dated(now):
        case {"do": "say", "text": str(text)}:
            return text
        case {"do": "group", "group_key": str(key)}:
            group = await load_group(store, key)
            members = await load_views(store, group.incidents, apps)
            return compose_others.plain_group(group.kind, list(members.values()), links=links)
        case {"do": "show"}:
            return compose.plain(needed(row, view), now=now, links=links)
        case {"do": "timeline", "text": str(text)}:
            return f"{needed(row, view).title}: {text}"
        case {"do": "remind", "step": str(), "why": str(why)} as payload:
            return compose_others.plain_reminder(needed(row, view), step_in(payload), why, now=now)
        case _:
            raise InvalidMessage(f"{row.dedupe_key} asks for something unknown")
