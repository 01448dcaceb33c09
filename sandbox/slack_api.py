"""Slack's Web API under `/slack/api/`, as slack-sdk calls it."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from .answers import bearer, json, world_of
from .people import PEOPLE
from .slack import Channel, Message, Slack, SlackError

_STRUCTURED = ("blocks", "attachments", "files", "view", "metadata")
_POSTING = {"chat.postMessage", "chat.postEphemeral"}
TEAM = "T0SANDBOX"


async def call(request: Request) -> Response:
    """One method call: token, faults, limit, then the method itself."""
    slack = world_of(request).slack
    method = request.path_params["method"]
    slack.calls[method] = slack.calls.get(method, 0) + 1
    fields = await _fields(request)
    fault = slack.goes_wrong(method, str(fields.get("channel", "")))
    if fault in ("404", "405", "500", "501"):
        return Response("not an answer of Slack's", int(fault), media_type="text/plain")
    if fault == "html":
        return Response("<h1>Slack is having trouble</h1>", media_type="text/html")
    busy = fault.startswith("429")
    if busy or (method in _POSTING and slack.held_up(str(fields.get("channel", "")))):
        wait = fault.removeprefix("429-") if busy and fault != "429" else "1"
        return json({"ok": False, "error": "ratelimited"}, 429, {"Retry-After": wait})
    if fault == "timeout":
        await asyncio.sleep(slack.faults.timeout_seconds)
        return Response(status_code=504)
    try:
        if fault and fault != "lost":
            raise SlackError(fault)
        answer = _answer(slack, method, fields, request)
    except SlackError as problem:
        refused: dict[str, Any] = {"ok": False, "error": problem.error}
        if problem.error == "missing_scope":
            refused |= {"needed": "chat:write", "provided": "channels:read"}
        if problem.detail:
            refused["response_metadata"] = {"messages": [f"[ERROR] {problem.detail}"]}
        return json(refused)
    if fault == "lost":
        await asyncio.sleep(slack.faults.timeout_seconds)
    scopes = "chat:write,channels:history"
    return json({"ok": True, **answer}, headers={"X-OAuth-Scopes": scopes})


async def upload(request: Request) -> Response:
    """Where the bytes of a file go, between the two calls of an upload."""
    slack = world_of(request).slack
    file = slack.files.get(request.path_params["file"])
    if file is None:
        return PlainTextResponse("no such upload", 404)
    raw = await request.body()
    if "form" in request.headers.get("content-type", ""):
        form = await request.form()
        part = next((v for v in form.values() if not isinstance(v, str)), None)
        raw = await part.read() if part is not None else b""
    slack.uploads[file["id"]] = raw
    return PlainTextResponse(f"OK - {len(raw)}")


async def answer_to_button(request: Request) -> Response:
    """The `response_url` of a pressed button: changes, removes or follows its message."""
    slack = world_of(request).slack
    fields = await _fields(request)
    channel, ts = request.path_params["channel"], request.path_params["ts"]
    try:
        if fields.get("delete_original"):
            slack.delete(channel, ts)
        elif fields.get("replace_original"):
            slack.update({**fields, "channel": channel, "ts": ts})
        else:
            slack.post({**fields, "channel": channel}, ephemeral_for="U0OPERATOR")
    except SlackError as problem:
        return json({"ok": False, "error": problem.error}, 404)
    return json({"ok": True})


async def _fields(request: Request) -> dict[str, Any]:
    """Query, form or JSON; what is structured may come as JSON text."""
    fields: dict[str, Any] = dict(request.query_params)
    kind = request.headers.get("content-type", "")
    if "json" in kind:
        try:
            body = orjson.loads(await request.body())
        except orjson.JSONDecodeError:
            body = {}
        fields |= body if isinstance(body, dict) else {}
    elif "form" in kind:
        fields |= dict(await request.form())
    for name in _STRUCTURED:
        if isinstance(fields.get(name), str):
            try:
                fields[name] = orjson.loads(fields[name])
            except orjson.JSONDecodeError:
                fields[name] = "unreadable"
    return fields


def _answer(slack: Slack, method: str, fields: dict[str, Any], request: Request) -> dict[str, Any]:
    token = bearer(request) or str(fields.get("token", ""))
    if not token:
        raise SlackError("not_authed")
    if not hmac.compare_digest(token.encode(), slack.settings.slack_token.encode()):
        raise SlackError("invalid_auth")
    if method == "files.getUploadURLExternal":
        return _begin_upload(slack, fields, str(request.base_url))
    known = _METHODS.get(method)
    if known is None:
        raise SlackError("unknown_method")
    return known(slack, fields)


def _auth_test(_slack: Slack, _fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "url": "https://sandbox.slack.example/",
        "team": "Sandbox",
        "user": "linekeeper",
        "team_id": TEAM,
        "user_id": "U0LINEKEEPER",
        "bot_id": "B0SANDBOX",
    }


def _posted(message: Message) -> dict[str, Any]:
    return {"channel": message.channel, "ts": message.ts, "message": message.as_dict()}


def _post(slack: Slack, fields: dict[str, Any]) -> dict[str, Any]:
    return _posted(slack.post(fields))


def _post_ephemeral(slack: Slack, fields: dict[str, Any]) -> dict[str, Any]:
    message = slack.post(fields, ephemeral_for=str(fields.get("user", "U0OPERATOR")))
    return {"message_ts": message.ts}


def _update(slack: Slack, fields: dict[str, Any]) -> dict[str, Any]:
    message = slack.update(fields)
    return {**_posted(message), "text": message.text}


def _delete(slack: Slack, fields: dict[str, Any]) -> dict[str, Any]:
    ts = str(fields.get("ts", ""))
    return {"channel": slack.delete(str(fields.get("channel", "")), ts).id, "ts": ts}


def _permalink(slack: Slack, fields: dict[str, Any]) -> dict[str, Any]:
    channel = slack.channel(str(fields.get("channel", "")))
    ts = str(fields.get("message_ts", ""))
    if ts not in channel.messages:
        raise SlackError("message_not_found")
    return {
        "channel": channel.id,
        "permalink": f"https://sandbox.slack.example/archives/{channel.id}/p{ts.replace('.', '')}",
    }


def _history(slack: Slack, fields: dict[str, Any]) -> dict[str, Any]:
    channel = slack.channel(str(fields.get("channel", "")))
    oldest, latest = str(fields.get("oldest") or "0"), str(fields.get("latest") or "9" * 17)
    inclusive = str(fields.get("inclusive", "")).lower() in ("1", "true")
    messages = [
        m
        for m in channel.messages.values()
        if (m.thread_ts in (None, m.ts) or m.broadcast)
        and (oldest < m.ts < latest or (inclusive and m.ts in (oldest, latest)))
    ]
    messages.reverse()
    limit = int(fields.get("limit") or 100)
    return {
        "messages": [_threaded(channel, m) for m in messages[:limit]],
        "has_more": len(messages) > limit,
    }


def _replies(slack: Slack, fields: dict[str, Any]) -> dict[str, Any]:
    channel = slack.channel(str(fields.get("channel", "")))
    parent = channel.messages.get(str(fields.get("ts", "")))
    if parent is None:
        raise SlackError("thread_not_found")
    messages = [_threaded(channel, parent), *(m.as_dict() for m in channel.replies(parent.ts))]
    return {"messages": messages, "has_more": False}


def _threaded(channel: Channel, message: Message) -> dict[str, Any]:
    replies = channel.replies(message.ts)
    shown = message.as_dict()
    if replies:
        shown |= {
            "thread_ts": message.ts,
            "reply_count": len(replies),
            "latest_reply": replies[-1].ts,
        }
    return shown


def _channel(channel: Channel) -> dict[str, Any]:
    return {
        "id": channel.id,
        "name": channel.name,
        "is_channel": True,
        "is_archived": channel.archived,
        "is_member": channel.member,
    }


def _list(slack: Slack, fields: dict[str, Any]) -> dict[str, Any]:
    hide = str(fields.get("exclude_archived", "")).lower() in ("1", "true")
    channels = [_channel(c) for c in slack.channels.values() if not (hide and c.archived)]
    return {"channels": channels, "response_metadata": {"next_cursor": ""}}


def _info(slack: Slack, fields: dict[str, Any]) -> dict[str, Any]:
    return {"channel": _channel(slack.channel(str(fields.get("channel", ""))))}


def _join(slack: Slack, fields: dict[str, Any]) -> dict[str, Any]:
    channel = slack.channel(str(fields.get("channel", "")))
    if channel.archived:
        raise SlackError("is_archived")
    channel.member = True
    return {"channel": _channel(channel)}


def _user(_slack: Slack, fields: dict[str, Any]) -> dict[str, Any]:
    user = str(fields.get("user", "U0OPERATOR"))
    name = PEOPLE.get(user, "Operator")
    known = {"id": user, "name": name.split()[0].lower(), "real_name": name, "tz": "UTC"}
    return {"user": known}


def _open_view(slack: Slack, fields: dict[str, Any]) -> dict[str, Any]:
    if not fields.get("trigger_id"):
        raise SlackError("invalid_arguments")
    view = fields.get("view")
    if not isinstance(view, dict) or view.get("type") != "modal":
        raise SlackError("invalid_arguments")
    check = view.get("blocks") or []
    if len(check) > 100:
        raise SlackError("invalid_arguments")
    view = {**view, "id": f"V0SANDBOX{len(slack.views) + 1:03d}", "team_id": TEAM}
    slack.views.append(view)
    slack.version += 1
    return {"view": view}


def _begin_upload(slack: Slack, fields: dict[str, Any], base: str) -> dict[str, Any]:
    name = str(fields.get("filename", ""))
    if not name or not str(fields.get("length", "")).isdigit():
        raise SlackError("invalid_arguments")
    file = f"F0SANDBOX{len(slack.files) + 1:04d}"
    slack.files[file] = {"id": file, "name": name, "title": name}
    return {"upload_url": f"{base}slack/upload/{file}", "file_id": file}


def _complete_upload(slack: Slack, fields: dict[str, Any]) -> dict[str, Any]:
    named = fields.get("files")
    if not isinstance(named, list) or not named:
        raise SlackError("invalid_arguments")
    files = []
    for item in named:
        file = slack.files.get(str(item.get("id")))
        if file is None or file["id"] not in slack.uploads:
            raise SlackError("file_not_found")
        file["title"] = item.get("title") or file["name"]
        files.append(file)
    if fields.get("channel_id"):
        names = ", ".join(str(file["title"]) for file in files)
        message = slack.post(
            {
                "channel": fields["channel_id"],
                "text": fields.get("initial_comment") or names,
                "thread_ts": fields.get("thread_ts"),
            }
        )
        message.files = files
    return {"files": files}


_METHODS: dict[str, Callable[[Slack, dict[str, Any]], dict[str, Any]]] = {
    "auth.test": _auth_test,
    "chat.postMessage": _post,
    "chat.postEphemeral": _post_ephemeral,
    "chat.update": _update,
    "chat.delete": _delete,
    "chat.getPermalink": _permalink,
    "conversations.history": _history,
    "conversations.replies": _replies,
    "conversations.list": _list,
    "conversations.info": _info,
    "conversations.join": _join,
    "files.completeUploadExternal": _complete_upload,
    "users.info": _user,
    "views.open": _open_view,
}

ROUTES = [
    Route("/slack/api/{method}", call, methods=["GET", "POST"]),
    Route("/slack/upload/{file}", upload, methods=["POST", "PUT"]),
    Route("/slack/response/{channel}/{ts}", answer_to_button, methods=["POST"]),
]
