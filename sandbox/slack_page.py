"""The page that shows the Slack messages, and the buttons on it."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from typing import Any
from urllib.parse import urlencode

import httpx
import httpx_aiohttp
import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .answers import Refused, json, world_of
from .rendering import page
from .slack import Channel, Message, SlackError
from .slack_api import TEAM
from .slack_text import moment, mrkdwn, plain
from .world import World

SHOWN = 100
"""Messages of a channel on the page; older ones are reached by the API."""


async def show(request: Request) -> Response:
    return _render(request, "slack.html")


async def fragment(request: Request) -> Response:
    """What the page asks for every second: 204 while nothing is new."""
    version = str(world_of(request).slack.version)
    if request.query_params.get("version") == version:
        return Response(status_code=204)
    answer = _render(request, "slack_messages.html")
    answer.headers["X-Version"] = version
    return answer


async def press(request: Request) -> Response:
    """A button of a message was pressed: a signed interaction goes to the app."""
    world = world_of(request)
    form = await request.form()
    message, channel = _message(world, str(form.get("channel")), str(form.get("ts")))
    element = _element(message, str(form.get("action_id")), str(form.get("block_id")))
    if element is None:
        raise Refused(404, "NOT_FOUND", "The message has no such button any more.")
    value = str(form.get("value") or "")
    action = {
        "type": element.get("type", "button"),
        "action_id": element.get("action_id", ""),
        "block_id": str(form.get("block_id")),
        "text": element.get("text"),
        "action_ts": world.slack.next_ts(),
    }
    if element.get("options"):
        action["selected_option"] = next(
            (o for o in element["options"] if o.get("value") == value), None
        )
    else:
        action["value"] = element.get("value", "")
    base = str(request.base_url).rstrip("/")
    return await _interact(
        world,
        {
            "type": "block_actions",
            "api_app_id": "A0SANDBOX",
            "container": {
                "type": "message",
                "message_ts": message.ts,
                "channel_id": channel.id,
                "is_ephemeral": message.ephemeral_for is not None,
            },
            "channel": {"id": channel.id, "name": channel.name},
            "message": message.as_dict(),
            "response_url": f"{base}/slack/response/{channel.id}/{message.ts}",
            "actions": [action],
        },
    )


async def submit(request: Request) -> Response:
    """A modal was submitted or closed."""
    world = world_of(request)
    form = await request.form()
    view = next((v for v in world.slack.views if v["id"] == form.get("view")), None)
    if view is None:
        raise Refused(404, "NOT_FOUND", "This dialog is gone.")
    world.slack.views.remove(view)
    world.slack.version += 1
    if form.get("answer") != "submit":
        return json({"status": "closed"})
    values: dict[str, Any] = {}
    for block in view.get("blocks", []):
        element = block.get("element")
        if element:
            given = str(form.get(f"{block.get('block_id')}/{element.get('action_id')}") or "")
            values.setdefault(block.get("block_id"), {})[element.get("action_id")] = _given(
                element, given
            )
    return await _interact(
        world, {"type": "view_submission", "view": {**view, "state": {"values": values}}}
    )


async def _interact(world: World, payload: dict[str, Any]) -> Response:
    url = world.settings.slack_actions_url
    if not url:
        raise Refused(409, "NOT_CONFIGURED", "No address for Slack actions is set.")
    payload |= {
        "user": {"id": "U0OPERATOR", "username": "operator", "name": "operator", "team_id": TEAM},
        "team": {"id": TEAM, "domain": "sandbox"},
        "trigger_id": secrets.token_hex(12),
    }
    body = urlencode({"payload": orjson.dumps(payload).decode()}).encode()
    stamp = str(int(world.now()))
    signed = hmac.new(
        world.settings.slack_signing_secret.encode(), f"v0:{stamp}:".encode() + body, hashlib.sha256
    )
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "X-Slack-Request-Timestamp": stamp,
        "X-Slack-Signature": f"v0={signed.hexdigest()}",
    }
    try:
        async with (
            asyncio.timeout(3),
            httpx_aiohttp.HttpxAiohttpClient(trust_env=False) as client,
        ):
            answer = await client.post(url, content=body, headers=headers)
    except (httpx.HTTPError, TimeoutError):
        raise Refused(502, "NO_ANSWER", "The app did not answer within 3 s.") from None
    return json({"status": answer.status_code, "answer": answer.text[:2000]})


def _render(request: Request, template: str) -> Response:
    world = world_of(request)
    channels = [c for c in world.slack.channels.values() if not c.archived]
    wanted = request.query_params.get("channel", "")
    busiest = max(channels, key=lambda c: len(c.messages), default=Channel("C0", "none"))
    channel = next((c for c in channels if wanted in (c.id, c.name)), busiest)
    messages = [m for m in channel.messages.values() if m.thread_ts in (None, m.ts)]
    return page(
        template,
        channels=channels,
        channel=channel,
        messages=messages[-SHOWN:],
        hidden=max(0, len(messages) - SHOWN),
        views=world.slack.views,
        version=world.slack.version,
        mrkdwn=mrkdwn,
        plain=plain,
        moment=moment,
        element_text=_element_text,
    )


def _element_text(text: dict[str, Any] | str | None) -> str:
    """A text object as HTML, by its type."""
    if not text:
        return ""
    if isinstance(text, str):
        return mrkdwn(text)
    shown = str(text.get("text", ""))
    return mrkdwn(shown) if text.get("type") == "mrkdwn" else plain(shown)


def _message(world: World, channel: str, ts: str) -> tuple[Message, Channel]:
    try:
        slack_channel = world.slack.channel(channel)
    except SlackError:
        raise Refused(404, "NOT_FOUND", "This channel is gone.") from None
    message = slack_channel.messages.get(ts)
    if message is None:
        raise Refused(404, "NOT_FOUND", "This message is gone.")
    return message, slack_channel


def _element(message: Message, action_id: str, block_id: str) -> dict[str, Any] | None:
    blocks = [*message.blocks]
    for attachment in message.attachments:
        blocks += attachment.get("blocks") or []
    for block in blocks:
        elements = [*(block.get("elements") or []), block.get("accessory") or {}]
        for element in elements:
            if element.get("action_id") == action_id and block.get("block_id", "") == block_id:
                return dict(element)
    return None


def _given(element: dict[str, Any], given: str) -> dict[str, Any]:
    kind = element.get("type", "")
    if "select" in kind or "radio" in kind:
        chosen = next((o for o in element.get("options", []) if o.get("value") == given), None)
        return {"type": kind, "selected_option": chosen}
    if kind == "datepicker":
        return {"type": kind, "selected_date": given or None}
    return {"type": kind, "value": given or None}


ROUTES = [
    Route("/slack", show, methods=["GET"]),
    Route("/slack/messages", fragment, methods=["GET"]),
    Route("/slack/press", press, methods=["POST"]),
    Route("/slack/submit", submit, methods=["POST"]),
]
