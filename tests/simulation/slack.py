"""The model Slack: one channel with its messages, as they are posted, edited and looked for."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl

import aiohttp
import httpx
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.web.async_slack_response import AsyncSlackResponse

from tests.simulation.makini.answers import Answer
from tests.simulation.net import Network, Request

CHANNEL = "C0SIMULATED"
TOKEN = "xoxb-simulated-5d1c"
SIGNING_SECRET = "slsig-simulated-77aa"
HOST = "slack.sim"


@dataclass
class Message:
    """One message, with every text it ever had and since when."""

    ts: str
    key: str
    thread_ts: str | None
    metadata: Any
    texts: list[tuple[datetime, str]] = field(default_factory=list)
    blocks: list[dict[str, Any]] = field(default_factory=list)

    @property
    def text(self) -> str:
        """What it says now."""
        return self.texts[-1][1]

    @property
    def incident_id(self) -> str | None:
        """The incident that it shows; None where it shows something else."""
        parts = self.key.split(":")
        return parts[2] if parts[:2] == ["slack", "incident"] else None


class Slack:
    """Takes calls of the Web API; `down` answers 503."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self.down = False
        self.messages: dict[str, Message] = {}
        self.dialogs: dict[str, Any] = {}
        """What was opened, by what had been pressed."""

    @property
    def channel(self) -> list[Message]:
        """What stands in the channel itself, oldest first."""
        return [message for message in self.messages.values() if message.thread_ts is None]

    def handle(self, request: Request) -> Answer:
        """One call."""
        if self.down:
            return Answer(503, b"upstream connect error")
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return _say({"ok": False, "error": "invalid_auth"})
        method = request.path.rsplit("/", 1)[-1]
        given = json.loads(request.body) if request.body else dict(parse_qsl(request.query))
        match method:
            case "chat.postMessage":
                return self._post(given)
            case "chat.update":
                return self._update(given)
            case "conversations.history" | "conversations.replies":
                return self._history(given)
            case "chat.postEphemeral":
                return _say({"ok": True, "message_ts": f"{self._now().timestamp():.6f}"})
            case "views.open":
                self.dialogs[given["trigger_id"]] = given["view"]
                return _say({"ok": True})
        return _say({"ok": False, "error": "unknown_method"})

    def _post(self, given: dict[str, Any]) -> Answer:
        now = self._now()
        ts = f"{now.timestamp():.0f}.{len(self.messages):06d}"
        metadata = given.get("metadata") or {}
        key = str((metadata.get("event_payload") or {}).get("key") or "")
        message = Message(ts, key, given.get("thread_ts"), metadata)
        message.texts.append((now, _shown(given)))
        message.blocks = given.get("blocks") or []
        self.messages[ts] = message
        return _say({"ok": True, "ts": ts, "channel": CHANNEL})

    def _update(self, given: dict[str, Any]) -> Answer:
        message = self.messages.get(given["ts"])
        if message is None:
            return _say({"ok": False, "error": "message_not_found"})
        message.texts.append((self._now(), _shown(given)))
        message.blocks = given.get("blocks") or []
        return _say({"ok": True, "ts": message.ts, "channel": CHANNEL})

    def _history(self, given: dict[str, Any]) -> Answer:
        oldest, thread = float(given.get("oldest") or 0), given.get("ts")
        shown = [
            {"ts": message.ts, "text": message.text, "metadata": message.metadata}
            for message in reversed(self.messages.values())
            if float(message.ts) >= oldest and message.thread_ts == thread
        ]
        return _say({"ok": True, "messages": shown})


def _shown(given: dict[str, Any]) -> str:
    """Everything that a reader sees of it."""
    return "\n".join([str(given.get("text") or ""), *_texts(given.get("blocks") or [])])


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["text"]] if isinstance(value.get("text"), str) else []
        return own + [text for inner in value.values() for text in _texts(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in _texts(inner)]
    return []


def _say(value: dict[str, Any]) -> Answer:
    return Answer(200, json.dumps(value).encode(), {"content-type": "application/json"})


def calls_through(network: Network) -> Callable[..., Any]:
    """`AsyncWebClient.api_call` on the simulated network."""

    async def api_call(
        client: AsyncWebClient,
        api_method: str,
        *,
        http_verb: str = "POST",
        json: dict[str, Any] | None = None,
        params: dict[str, Any] | None = None,
        **_: Any,
    ) -> AsyncSlackResponse:
        body = _dump(json) if json is not None else b""
        query = httpx.QueryParams(params or {})
        headers = {"authorization": f"Bearer {client.token}"}
        request = Request(http_verb, HOST, f"/api/{api_method}", str(query), headers, body)
        try:
            answer = await network.send(request)
        except httpx.HTTPError as error:
            raise aiohttp.ClientError(str(error)) from None
        try:
            data = _load(answer.body)
        except ValueError:
            data = {}
        response = AsyncSlackResponse(
            client=client, http_verb=http_verb, api_url=request.path, req_args={}, data=data,
            headers={name.title(): value for name, value in answer.headers.items()},
            status_code=answer.status,
        )  # fmt: skip
        if answer.status != 200 or not data.get("ok"):
            raise SlackApiError("refused", response)
        return response

    return api_call


def _dump(value: Any) -> bytes:
    return json.dumps(value).encode()


def _load(raw: bytes) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(raw)
    return loaded
