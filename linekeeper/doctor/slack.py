"""Slack: the token, its scopes, the channel, the signing secret. Nothing is posted."""

import asyncio
import re
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.web.async_client import AsyncWebClient

from linekeeper.config import Configuration, SlackConfig
from linekeeper.doctor.finding import DoctorFinding, ok, warn, wrong
from linekeeper.doctor.makini import LOOPBACK
from linekeeper.notify.refusals import refused
from linekeeper.notify.routing import DEFAULT, channels_of, has_rules
from linekeeper.tls import tls_trouble

NEEDED_SCOPES = ("chat:write",)
USEFUL_SCOPES = {
    "channels:history": "to find a message again after a crash; groups:history if it is private",
}
_PAGES = 10
_CHANNEL_ID = re.compile(r"[CGD][A-Z0-9]{8,}")
_PROVE = "send one with the deployment doctor, Test message"


class _Refused(Exception):
    """Slack answered with an error code."""

    def __init__(self, code: str, needed: str) -> None:
        super().__init__(code)
        self.code = code
        self.needed = needed


async def examine_slack(configuration: Configuration, *, seconds: float) -> list[DoctorFinding]:
    """What is to be said about the channels operators read."""
    channels = channels_of(configuration)
    if not channels:
        return [
            warn(
                "slack",
                "not configured: nobody is notified of incidents",
                "fill in a SlackChannel block, or set LINEKEEPER_SLACK_BOT_TOKEN and _CHANNEL",
            )
        ]
    looks = await asyncio.gather(
        *(_examine_channel(config, seconds=seconds) for config in channels.values())
    )
    findings: list[DoctorFinding] = []
    for (name, config), finding in zip(channels.items(), looks, strict=True):
        if name == DEFAULT:
            findings += finding
            continue
        findings += [
            replace(each, name=each.name.replace("slack", f"slack {name}", 1)) for each in finding
        ]
        if not has_rules(config):
            findings.append(
                warn(
                    f"slack {name} · rules",
                    "it has no rules, so it takes no message",
                    "fill in owners, customers, tags, providers, severities or topics",
                )
            )
    if DEFAULT not in channels:
        findings.append(
            warn(
                "slack",
                "there is no channel default: nobody is notified of what fits no other channel",
                "save a SlackChannel block as default",
            )
        )
    return findings


async def _examine_channel(config: SlackConfig, *, seconds: float) -> list[DoctorFinding]:
    try:
        async with (
            asyncio.timeout(seconds),
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=seconds)) as session,
        ):
            client = AsyncWebClient(
                token=config.bot_token.get_secret_value(),
                base_url=config.api_url,
                session=session,
                retry_handlers=[],
            )
            if urlsplit(config.api_url).hostname in LOOPBACK:
                client.proxy = None  # slack-sdk sends everything through HTTPS_PROXY
            return await _examine(client, config)
    except (TimeoutError, aiohttp.ClientError, SlackClientError, OSError, ValueError) as error:
        late = f"no answer within {seconds:g} s" if isinstance(error, TimeoutError) else None
        reason = late or tls_trouble(error) or error
        return [
            wrong(
                "slack · token",
                f"{config.api_url} does not answer: {reason}",
                "check the network, and api_url of the SlackChannel block",
            )
        ]


async def _examine(client: AsyncWebClient, config: SlackConfig) -> list[DoctorFinding]:
    try:
        who, scopes = await _call(client, "auth.test")
    except _Refused as error:
        return [_wrong("slack · token", error)]
    findings = [ok("slack · token", f"{who.get('user')} in {who.get('team')}"), *_scopes(scopes)]
    findings.append(await _channel(client, config.channel))
    if not config.has_buttons:
        findings.append(
            warn(
                "slack · buttons",
                "neither a signing secret nor an app token: messages have links and no buttons",
                "copy the signing secret from the app's Basic Information into the SlackChannel "
                "block, or an app token for Socket Mode",
            )
        )
    return findings


def _scopes(granted: frozenset[str]) -> list[DoctorFinding]:
    """What the token may do, if Slack says so."""
    if not granted:
        return []
    missing = [scope for scope in NEEDED_SCOPES if scope not in granted]
    if missing:
        return [
            wrong(
                "slack · scopes",
                f"missing: {', '.join(missing)}",
                "add it under OAuth & Permissions of the Slack app and install it again",
            )
        ]
    lacking = [
        f"{scope} ({why})"
        for scope, why in USEFUL_SCOPES.items()
        if not granted & {scope, scope.replace("channels:", "groups:")}
    ]
    if lacking:
        return [
            warn(
                "slack · scopes",
                f"not granted: {', '.join(lacking)}",
                "add it under OAuth & Permissions of the Slack app and install it again",
            )
        ]
    return [ok("slack · scopes", ", ".join(sorted(granted)))]


async def _channel(client: AsyncWebClient, wanted: str) -> DoctorFinding:
    name = f"slack · channel {wanted}"
    try:
        channel = await _find(client, wanted)
    except _Refused as error:
        if error.code == "missing_scope":
            return warn(
                name,
                f"can't be looked at without the scope {error.needed or 'channels:read'}",
                f"grant it, or {_PROVE}",
            )
        return _wrong(name, error)
    if channel is None:
        return warn(name, "not among the channels the bot can see", f"invite it, then {_PROVE}")
    if channel.get("is_archived"):
        return _wrong(name, _Refused("is_archived", ""))
    if channel.get("is_member") is False:
        return wrong(name, "the bot is not in it", "in Slack: /invite @<its name>")
    return ok(name, "the bot is in it")


async def _find(client: AsyncWebClient, wanted: str) -> dict[str, Any] | None:
    """The channel by its id, or by its name among those the bot may list."""
    if _CHANNEL_ID.fullmatch(wanted):
        data, _ = await _call(client, "conversations.info", channel=wanted)
        channel = data.get("channel")
        return channel if isinstance(channel, dict) else None
    cursor = ""
    for _ in range(_PAGES):
        data, _ = await _call(
            client, "conversations.list", limit=1000, cursor=cursor, exclude_archived=False
        )
        for channel in data.get("channels") or []:
            if channel.get("name") == wanted.removeprefix("#"):
                return dict(channel)
        cursor = (data.get("response_metadata") or {}).get("next_cursor") or ""
        if not cursor:
            break
    return None


async def _call(
    client: AsyncWebClient, method: str, **arguments: Any
) -> tuple[dict[str, Any], frozenset[str]]:
    """Slack's answer and the scopes it says the token has."""
    try:
        response = await client.api_call(method, params=arguments)
    except SlackApiError as error:
        data = getattr(error.response, "data", None)
        body = data if isinstance(data, dict) else {}
        code = str(body.get("error") or "no answer of Slack's")
        raise _Refused(code, str(body.get("needed") or "")) from None
    headers = {name.lower(): value for name, value in (response.headers or {}).items()}
    scopes = str(headers.get("x-oauth-scopes") or "")
    data = response.data
    granted = frozenset(scope.strip() for scope in scopes.split(",") if scope.strip())
    return (data if isinstance(data, dict) else {}), granted


def _wrong(name: str, error: _Refused) -> DoctorFinding:
    trouble = refused(error.code, needed=error.needed)
    return wrong(name, trouble.text, trouble.fix)
