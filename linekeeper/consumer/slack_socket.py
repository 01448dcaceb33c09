"""Slack's Socket Mode: what is pressed comes through a connection that we open.

So buttons and dialogs work without a public address. Every consumer holds a connection of its own
for each app token; Slack gives a press to one of them, and to another one if it isn't acknowledged.
It is acknowledged once it is in our database, within milliseconds; what isn't is pressed in vain,
which Slack tells the person.

slack-sdk's client reconnects by itself, but goes on asking for the same address for ever once one
is refused, and an address is good for one connection. So a client that has been without a
connection for `SILENCE_SECONDS` is replaced by a new one.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

from slack_sdk.socket_mode.aiohttp import SocketModeClient
from slack_sdk.socket_mode.async_client import AsyncBaseSocketModeClient
from slack_sdk.socket_mode.request import SocketModeRequest
from slack_sdk.socket_mode.response import SocketModeResponse
from slack_sdk.web.async_client import AsyncWebClient
from sqlalchemy.exc import SQLAlchemyError

from linekeeper.clock import monotonic, utcnow
from linekeeper.config import SlackConfig
from linekeeper.groups import to_end
from linekeeper.interactions import SlackReply, interact
from linekeeper.notify.channels import SOCKET, mark_broken, mark_well, with_artifacts
from linekeeper.notify.home import home, read_own
from linekeeper.notify.merged import FLEET
from linekeeper.notify.refusals import SlackTrouble
from linekeeper.notify.routing import channels_of
from linekeeper.notify.slack_channel import is_near
from linekeeper.notify.slack_person import publish_home
from linekeeper.notify.view import Links
from linekeeper.redact import describe_error
from linekeeper.runtime import Runtime

SILENCE_SECONDS = 15.0
_PING_SECONDS = 5.0
_ACKNOWLEDGE_SECONDS = 2.5
"""After three seconds Slack tells the person that it did not work."""
_CLOSING_SECONDS = 2.0
log = logging.getLogger(__name__)
_SILENT = logging.getLogger(f"{__name__}.sdk")
_SILENT.setLevel(logging.CRITICAL + 1)  # it logs addresses, which are secrets


class SlackSockets:
    """The connections of one consumer: one for each app token there is."""

    def __init__(
        self, rt: Runtime, links: Callable[[], Links], *, silence: float = SILENCE_SECONDS
    ) -> None:
        self._rt = rt
        self._links = links
        self._silence = silence
        self._sockets: dict[str, _Socket] = {}
        self._is_well = False
        """No trouble is kept; at the start there may be some of those before us."""

    async def step(self) -> bool:
        """Open, replace and close connections as the settings and their state want."""
        channels = channels_of(await self._rt.configuration()).values()
        wanted = {
            token: channel
            for channel in channels
            if (token := channel.app_token.get_secret_value().strip())
        }
        if self._sockets.keys() != wanted.keys():
            self._is_well = False
        for token in self._sockets.keys() - wanted.keys():
            await self._sockets.pop(token).close()
        for token, channel in wanted.items():
            if token not in self._sockets:
                self._sockets[token] = _Socket(self._rt, channel, self._links, self._silence)
            self._sockets[token].channel = channel  # its bot token may have changed since
        troubles = [
            trouble for socket in self._sockets.values() if (trouble := await socket.step())
        ]
        if troubles:
            text = f"{troubles[0]}: check the app token (xapp-…, scope connections:write) in the "
            text += "SlackChannel block, and that Socket Mode is on in the Slack app"
            store, now = self._rt.store, utcnow()
            async with store.write() as session:
                await mark_broken(store, session, SOCKET, text, needs_fix=True, now=now)
            self._is_well = False
        elif not self._is_well and all(each.is_connected for each in self._sockets.values()):
            async with self._rt.store.write() as session:
                await mark_well(session, SOCKET)
            self._is_well = True
        return False

    async def close(self) -> None:
        """Close every connection once what came through it is done."""
        await to_end(*(socket.close for socket in self._sockets.values()))
        self._sockets.clear()


class _Socket:
    """One app token's connection, in the life of several clients."""

    def __init__(
        self, rt: Runtime, channel: SlackConfig, links: Callable[[], Links], silence: float
    ) -> None:
        self._rt = rt
        self._links = links
        self.channel = channel
        self._silence = silence
        self._client: SocketModeClient | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._alone_since = monotonic()
        self._doing: set[asyncio.Task[None]] = set()
        self.is_connected = False

    async def step(self) -> str:
        """See to the connection; returns what is wrong with it if that has lasted."""
        if self._client is not None and await self._client.is_connected():
            self._alone_since, self.is_connected = monotonic(), True
            return ""
        self.is_connected = False
        lasting = monotonic() - self._alone_since
        if self._client is None:
            self._connect()
            return ""
        if lasting < self._silence:
            return ""
        await self._disconnect()
        self._alone_since = monotonic()
        self._connect()
        return "Slack's Socket Mode is not connected"

    async def close(self) -> None:
        """Finish what came in, then close."""

        async def done() -> None:
            if self._doing:
                await asyncio.wait(self._doing, timeout=_CLOSING_SECONDS)

        await to_end(done, self._disconnect)

    def _connect(self) -> None:
        web = AsyncWebClient(base_url=self.channel.api_url, retry_handlers=[])
        self._client = client = SocketModeClient(
            app_token=self.channel.app_token.get_secret_value().strip(),
            web_client=web,
            logger=_SILENT,
            ping_interval=_PING_SECONDS,
        )
        if is_near(self.channel.api_url):
            client.proxy = web.proxy = None
        client.socket_mode_request_listeners.append(self._take)
        connect: Callable[[], Coroutine[Any, Any, None]] = client.connect
        self._connecting = asyncio.create_task(connect())

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        connecting = self._connecting
        if connecting is not None:
            connecting.cancel()

        async def ended() -> None:
            if connecting is not None:
                await asyncio.gather(connecting, return_exceptions=True)

        async def close() -> None:
            if client is not None:
                leave: Callable[[], Awaitable[None]] = client.close
                with suppress(Exception):
                    async with asyncio.timeout(_CLOSING_SECONDS):
                        await leave()

        async def finish() -> None:
            if client is not None:
                await client.aiohttp_client_session.close()

        await to_end(ended, close, finish)

    async def _take(self, client: AsyncBaseSocketModeClient, request: SocketModeRequest) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._doing.add(task)
            task.add_done_callback(self._doing.discard)
        reply = SlackReply()
        if request.type == "interactive":
            try:
                async with asyncio.timeout(_ACKNOWLEDGE_SECONDS):
                    reply = await interact(self._rt, request.payload)
            except (SQLAlchemyError, OSError, TimeoutError) as error:
                log.warning("what was pressed in Slack was not done: %s", describe_error(error))
                return
        elif request.type == "events_api":
            reply = SlackReply(afterwards=self._opened_home(request.payload.get("event")))
        with suppress(ConnectionError, OSError):  # then Slack sends it again
            body = dict(reply.body) if reply.body is not None else None
            answer = SocketModeResponse(envelope_id=request.envelope_id, payload=body)
            await client.send_socket_mode_response(answer)
        if reply.afterwards is not None:
            await reply.afterwards()

    def _opened_home(self, event: Any) -> Callable[[], Awaitable[None]] | None:
        """What there is to do where somebody opened the app's home page."""
        if not isinstance(event, dict) or event.get("type") != "app_home_opened":
            return None
        member = str(event.get("user", ""))
        return partial(self._show_home, member) if event.get("tab", "home") == "home" else None

    async def _show_home(self, member: str) -> None:
        try:
            own, customers = await read_own(self._rt.store, member)
            links = await with_artifacts(self._rt.store, self._links(), [FLEET])
            view = home(own, customers, now=utcnow(), fleet=links.artifact(FLEET))
            await publish_home(self.channel, member, view)
        except (SQLAlchemyError, OSError, SlackTrouble) as error:
            log.warning("a home page in Slack was not shown: %s", describe_error(error))
