"""Slack over HTTP: post, edit and find messages of one channel, at the pace Slack allows."""

import asyncio
import ipaddress
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

import aiohttp
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from linekeeper.clock import monotonic
from linekeeper.config import AppConfig, SlackConfig
from linekeeper.notify.channels import MessageKept, channel_id_of, message_of
from linekeeper.notify.compose import Rendered
from linekeeper.notify.refusals import (
    GONE,
    MOVED,
    UNANSWERED_WAIT,
    UNEDITABLE,
    SlackTrouble,
    trouble_of,
    unreachable,
)
from linekeeper.notify.routing import EarlierMessageWaits, prove_ours
from linekeeper.notify.view import Links
from linekeeper.outbox.sender import OutboxRow
from linekeeper.store.engine import Store
from linekeeper.tls import tls_trouble

TIMEOUT_SECONDS = 10
EVENT_TYPE = "linekeeper_notice"

_PAGE = 200
_PAGES = 10
ANEW = 60.0
"""What can't be edited is posted anew so many seconds later at the earliest."""
_SKEW = timedelta(hours=25)
"""How far Slack's clock may be behind ours: a machine's may be a day ahead."""
_CHANNEL_ID = re.compile(r"[CGD][A-Z0-9]{8,}")


@dataclass(frozen=True, slots=True)
class Posted:
    """Where a message is: its `ts` and the channel's id (`channel_id`)."""

    ts: str
    channel_id: str


class Pacer:
    """Paces what this process sends: at most one message per `seconds` to a channel.

    Slack allows one a second; what several processes send together is held by its 429.
    """

    def __init__(self, seconds: float = 1.0) -> None:
        self._seconds = seconds
        self._next: dict[str, float] = {}

    async def turn(self, channel: str) -> None:
        """Wait for this message's turn."""
        now = monotonic()
        slot = max(now, self._next.get(channel, 0.0))
        self._next[channel] = slot + self._seconds
        if slot > now:
            await asyncio.sleep(slot - now)


class ChannelClient:
    """The channel of a `SlackConfig`. Every method raises `SlackTrouble` alone."""

    def __init__(self, config: SlackConfig, client: AsyncWebClient, pacer: Pacer) -> None:
        self.name = config.channel
        self._client = client
        self._pacer = pacer
        self._paced_as = f"{config.api_url} {config.channel}"

    async def post(
        self,
        rendered: Rendered,
        *,
        key: str,
        thread_ts: str | None = None,
        broadcast: bool = False,
        before: Callable[[], Awaitable[None]] | None = None,
    ) -> Posted:
        """Post; `key` goes along as metadata, so that `find` can tell whether it was.

        `before` is called when it is its turn; what it raises is raised, and nothing is posted.

        A reply with `broadcast` is shown in the channel too. A message of its own that Slack
        refuses for what it says is posted with less; if nothing is taken it is the channel's
        trouble.
        """
        await self._pacer.turn(self._paced_as)
        if before is not None:
            await before()
        fields: dict[str, Any] = {
            "channel": self.name,
            "text": rendered.text,
            "thread_ts": thread_ts,
            "reply_broadcast": True if broadcast and thread_ts else None,
            "unfurl_links": False,
            "unfurl_media": False,
            "parse": "none",
        }
        metadata = {"event_type": EVENT_TYPE, "event_payload": {"key": key}}
        forms = [fields | {"blocks": rendered.blocks, "metadata": metadata}, fields]
        if thread_ts is None:
            forms.append(fields | {"text": rendered.least})
        try:
            answer = await self._in_some_form("chat.postMessage", forms)
        except SlackTrouble as trouble:
            if thread_ts is None and trouble.is_about_text:
                raise trouble.of_channel() from None
            raise
        return Posted(str(answer["ts"]), str(answer.get("channel") or self.name))

    async def edit(self, posted: Posted, rendered: Rendered) -> None:
        """Change the message to `rendered`."""
        await self._pacer.turn(self._paced_as)
        fields: dict[str, Any] = {
            "channel": posted.channel_id,
            "ts": posted.ts,
            "text": rendered.text,
            "parse": "none",
        }
        texts = [rendered.text, rendered.least]
        forms = [fields | {"blocks": rendered.blocks}]
        forms += [fields | {"blocks": [], "text": text} for text in texts]
        await self._in_some_form("chat.update", forms)

    async def find(
        self, key: str, *, channel_id: str | None, since: datetime, thread_ts: str | None = None
    ) -> Posted | None:
        """The message posted with `key` since then; None if there is none or we can't look.

        What takes messages as Slack does may offer no history. Looking needs the scopes
        `channels:history` (`groups:history` for a private channel).
        """
        try:
            where = channel_id or await self._channel_id()
            if where is None:
                return None
            params: dict[str, Any] = {
                "channel": where,
                "oldest": f"{since.timestamp():.6f}",
                "include_all_metadata": True,
                "limit": _PAGE,
            }
            method = "conversations.history"
            if thread_ts is not None:
                method = "conversations.replies"
                params["ts"] = thread_ts
            async for message in self._pages(method, params, "messages"):
                if _key_of(message) == key:
                    return Posted(str(message["ts"]), where)
        except SlackTrouble as trouble:
            if trouble.passing and trouble.offered:
                raise
        return None

    async def _channel_id(self) -> str | None:
        if _CHANNEL_ID.fullmatch(self.name):
            return self.name
        params = {"limit": 1000, "types": "public_channel,private_channel"}
        async for channel in self._pages("conversations.list", params, "channels"):
            if channel.get("name") == self.name.lstrip("#"):
                return str(channel["id"])
        return None

    async def _pages(
        self, method: str, params: dict[str, Any], field: str
    ) -> AsyncIterator[Mapping[str, Any]]:
        for _ in range(_PAGES):
            answer = await call(self._client, method, params=params, http_verb="GET")
            for item in answer.get(field) or []:
                yield item
            cursor = (answer.get("response_metadata") or {}).get("next_cursor")
            if not cursor:
                return
            params = params | {"cursor": cursor}

    async def _in_some_form(
        self, method: str, forms: Sequence[Mapping[str, Any]]
    ) -> Mapping[str, Any]:
        """The answer to the first of `forms` whose contents Slack does not refuse."""
        for form in forms[:-1]:
            try:
                return await call(self._client, method, json=form)
            except SlackTrouble as trouble:
                if not trouble.is_about_text:
                    raise
        return await call(self._client, method, json=forms[-1])


async def call(client: AsyncWebClient, method: str, **arguments: Any) -> Mapping[str, Any]:
    for kind in ("json", "params"):
        if kind in arguments:
            given = arguments[kind]
            arguments[kind] = {k: v for k, v in given.items() if v is not None}
    posting = method == "chat.postMessage"
    try:
        answer = await client.api_call(method, **arguments)
    except SlackApiError as error:
        raise trouble_of(error.response, posting=posting) from None
    except TimeoutError:
        wait = UNANSWERED_WAIT if posting else None
        text = f"nothing within {TIMEOUT_SECONDS} s"
        raise unreachable(text, wait=wait, may_stand=posting) from None
    except (aiohttp.ClientError, OSError) as error:
        may_stand = posting and not isinstance(error, aiohttp.ClientConnectorError)
        why = tls_trouble(error) or str(error) or type(error).__name__
        raise unreachable(why, may_stand=may_stand) from None
    except (AttributeError, TypeError, ValueError):
        raise unreachable("its answer can't be read", may_stand=posting) from None
    data = answer.data
    return data if isinstance(data, dict) else {}


@asynccontextmanager
async def open_channel(config: SlackConfig, pacer: Pacer) -> AsyncIterator[ChannelClient]:
    """The channel, on one HTTP session; slack-sdk's own retries are off: the outbox retries."""
    async with open_session() as session:
        yield ChannelClient(config, client_of(config, session), pacer)


def open_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS))


def client_of(config: SlackConfig, session: aiohttp.ClientSession) -> AsyncWebClient:
    client = AsyncWebClient(
        token=config.bot_token.get_secret_value(),
        base_url=config.api_url,
        timeout=TIMEOUT_SECONDS,
        session=session,
        retry_handlers=[],
    )
    if is_near(config.api_url):
        client.proxy = None  # slack-sdk sends everything through HTTPS_PROXY, loopback too
    return client


def is_near(url: str) -> bool:
    """Whether no proxy is between us and `url`."""
    host = urlsplit(url).hostname or ""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    return loopback or bool(proxy_bypass(host))


def _key_of(message: Mapping[str, Any]) -> str | None:
    metadata = message.get("metadata")
    if isinstance(metadata, str):
        try:
            metadata = json.loads(metadata)
        except ValueError:
            return None
    if not isinstance(metadata, dict) or metadata.get("event_type") != EVENT_TYPE:
        return None
    payload = metadata.get("event_payload")
    return payload.get("key") if isinstance(payload, dict) else None


class Posts:
    """The messages of one channel: each posted once, then edited.

    Raises `SlackTrouble`, `NoLongerOurs` and `EarlierMessageWaits`.
    """

    def __init__(
        self,
        store: Store,
        channel: ChannelClient,
        links: Links,
        clock: Callable[[], datetime],
        apps: Mapping[str, AppConfig],
    ) -> None:
        self._store, self._apps = store, apps
        self._channel, self._links, self._clock = channel, links, clock

    async def _edited(self, kept: MessageKept, rendered: Rendered) -> bool:
        """Edit a message; False where it is to be posted anew."""
        try:
            await self._channel.edit(Posted(kept.ts, kept.channel_id), rendered)
        except SlackTrouble as trouble:
            if trouble.code not in UNEDITABLE | MOVED:
                raise
            lasts = ANEW - (self._clock() - kept.at).total_seconds()
            if trouble.code not in GONE | MOVED and lasts > 0:
                raise EarlierMessageWaits(f"it is to be posted anew: {trouble}", lasts) from None
            return False
        return True

    async def _post_once(
        self,
        row: OutboxRow,
        rendered: Rendered,
        *,
        key: str,
        thread: Posted | None = None,
        edit_found: bool = False,
        broadcast: bool = False,
    ) -> Posted:
        if row.attempts > 1:
            posted = await self._find_posted(row, key=key, thread=thread)
            if posted is not None:
                if edit_found:
                    await self._edit_if_possible(posted, rendered)
                return posted
        post = partial(self._channel.post, before=partial(prove_ours, self._store, row))
        thread_ts = thread.ts if thread else None
        return await post(rendered, key=key, thread_ts=thread_ts, broadcast=broadcast)

    async def _find_posted(
        self, row: OutboxRow, *, key: str, thread: Posted | None = None
    ) -> Posted | None:
        """What an earlier attempt posted with `key`, if it did."""
        since = row.due_since - _SKEW
        if thread is None:
            channel_id = await channel_id_of(self._store, self._channel.name)
            return await self._channel.find(key, channel_id=channel_id, since=since)
        where = thread.channel_id
        return await self._channel.find(key, channel_id=where, since=since, thread_ts=thread.ts)

    async def _edit_if_possible(self, posted: Posted, rendered: Rendered) -> None:
        try:
            await self._channel.edit(posted, rendered)
        except SlackTrouble as trouble:
            if trouble.code in MOVED:
                raise trouble.of_message() from None
            if trouble.code not in UNEDITABLE:
                raise

    async def _message(self, subject: str) -> Posted | None:
        kept = await message_of(self._store, subject, self._channel.name)
        return Posted(kept.ts, kept.channel_id) if kept else None
