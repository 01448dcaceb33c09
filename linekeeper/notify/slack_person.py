"""What one member of a workspace sees alone: a dialog, the home page, a line in a channel."""

from collections.abc import Mapping
from typing import Any

from linekeeper.config import SlackConfig
from linekeeper.notify.compose import Rendered
from linekeeper.notify.slack_channel import call, client_of, open_session


async def open_view(config: SlackConfig, trigger: str, view: Mapping[str, Any]) -> None:
    """Open the dialog `view` for whom the `trigger` is. Raises `SlackTrouble`."""
    fields = {"trigger_id": trigger, "view": view}
    async with open_session() as session:
        await call(client_of(config, session), "views.open", json=fields)


async def publish_home(config: SlackConfig, member: str, view: Mapping[str, Any]) -> None:
    """Show `view` as the home page of `member`. Raises `SlackTrouble`."""
    async with open_session() as session:
        fields = {"user_id": member, "view": view}
        await call(client_of(config, session), "views.publish", json=fields)


async def answer_member(config: SlackConfig, channel: str, member: str, rendered: Rendered) -> None:
    """Say something in a channel that `member` alone sees. Raises `SlackTrouble`."""
    fields = {"channel": channel, "user": member, "text": rendered.text, "blocks": rendered.blocks}
    async with open_session() as session:
        await call(client_of(config, session), "chat.postEphemeral", json=fields)
