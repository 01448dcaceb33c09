"""A Slack workspace: channels, messages, threads, files, and how it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .fleet import seeded
from .settings import Settings

TEXT_LIMIT = 40_000
BLOCK_LIMIT = 50
SECTION_LIMIT = 3_000
HEADER_LIMIT = 150
BURST = 5
"""Messages a channel takes at once before it is held to one a second."""


class SlackError(Exception):
    """Slack's `{"ok": false, "error": …}`."""

    def __init__(self, error: str, detail: str = "") -> None:
        super().__init__(error)
        self.error = error
        self.detail = detail


@dataclass(slots=True)
class Message:
    channel: str
    ts: str
    user: str
    text: str
    blocks: list[dict[str, Any]]
    attachments: list[dict[str, Any]]
    thread_ts: str | None = None
    broadcast: bool = False
    ephemeral_for: str | None = None
    edited: str | None = None
    edits: int = 0
    files: list[dict[str, Any]] = field(default_factory=list)
    metadata: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """The message as Slack's own API shows it."""
        shown: dict[str, Any] = {
            "type": "message",
            "ts": self.ts,
            "user": self.user,
            "bot_id": "B0SANDBOX",
            "text": self.text,
            "blocks": self.blocks,
            "attachments": self.attachments,
        }
        if self.thread_ts:
            shown["thread_ts"] = self.thread_ts
        if self.edited:
            shown["edited"] = {"user": self.user, "ts": self.edited}
        if self.files:
            shown["files"] = self.files
        if self.metadata:
            shown["metadata"] = self.metadata
        return shown


@dataclass(slots=True)
class Channel:
    id: str
    name: str
    archived: bool = False
    member: bool = True
    messages: dict[str, Message] = field(default_factory=dict)
    allowance: float = BURST
    allowance_at: float = 0.0

    def replies(self, ts: str) -> list[Message]:
        return [m for m in self.messages.values() if m.thread_ts == ts and m.ts != ts]


@dataclass(slots=True)
class SlackFaults:
    """`share` of the calls go wrong by `mode`; the rest is as it should be."""

    mode: str = ""
    """`500`, `429` (wait a second; `429-300`: wait 300), `html`, `timeout` (nothing happens, no
    answer), `lost` (it happens, the answer never comes), or any error name of Slack's, such as
    `token_revoked`."""
    share: float = 1.0
    method: str = ""
    """Only this method, such as `chat.update`; empty: all."""
    channel: str = ""
    """Only what is said in this channel; empty: in all."""
    replies: str = ""
    """The error by which replies in threads are refused, such as
    `restricted_action_thread_locked`; empty: they are taken."""
    timeout_seconds: float = 60.0
    rate_limit: bool = False
    """Hold every channel to one message a second, after a burst."""


class Slack:
    """The workspace. Times are seconds since 1970 from `clock`."""

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        self.settings = settings
        self._clock = clock
        self._last_ts = 0
        self._chance = seeded(settings.seed, "slack")
        self.faults = SlackFaults(rate_limit=settings.slack_rate_limit)
        self.channels: dict[str, Channel] = {}
        self.calls: dict[str, int] = {}
        self.files: dict[str, dict[str, Any]] = {}
        self.uploads: dict[str, bytes] = {}
        self.views: list[dict[str, Any]] = []
        self.version = 0
        """Grows with everything that a page would show."""
        for name in settings.slack_channels:
            self.open_channel(name)

    def open_channel(self, name: str) -> Channel:
        """The channel of this name, made if there is none."""
        plain = name.lstrip("#")
        channel = next((c for c in self.channels.values() if c.name == plain), None)
        if channel is None:
            channel = Channel(f"C0SANDBOX{len(self.channels) + 1:02d}", plain)
            self.channels[channel.id] = channel
        return channel

    def channel(self, name: str) -> Channel:
        """A channel by id or name, `#` or not."""
        plain = name.lstrip("#")
        for channel in self.channels.values():
            if plain in (channel.id, channel.name):
                return channel
        raise SlackError("channel_not_found")

    def goes_wrong(self, method: str, channel: str) -> str:
        """The fault that strikes this call; empty text if none does."""
        faults = self.faults
        if not faults.mode or faults.method not in ("", method):
            return ""
        if faults.channel and not self._is_same(channel, faults.channel):
            return ""
        return faults.mode if self._chance.random() < faults.share else ""

    def _is_same(self, name: str, other: str) -> bool:
        try:
            return self.channel(name) is self.channel(other)
        except SlackError:
            return False

    def held_up(self, name: str) -> bool:
        """Whether a message to this channel comes too early for Slack's limit."""
        if not self.faults.rate_limit:
            return False
        try:
            channel = self.channel(name)
        except SlackError:
            return False
        now = self._clock()
        channel.allowance = min(BURST, channel.allowance + now - channel.allowance_at)
        channel.allowance_at = now
        if channel.allowance < 1:
            return True
        channel.allowance -= 1
        return False

    def post(self, fields: dict[str, Any], *, ephemeral_for: str | None = None) -> Message:
        channel = self._writable(str(fields.get("channel", "")))
        text, blocks, attachments = _content(fields)
        thread_ts = str(fields["thread_ts"]) if fields.get("thread_ts") else None
        if thread_ts is not None:
            if self.faults.replies:
                raise SlackError(self.faults.replies)
            parent = channel.messages.get(thread_ts)
            if parent is None:
                raise SlackError("thread_not_found")
            thread_ts = parent.thread_ts or parent.ts
        message = Message(
            channel.id,
            self.next_ts(),
            "U0LINEKEEPER",
            text,
            blocks,
            attachments,
            thread_ts,
            broadcast=bool(fields.get("reply_broadcast")),
            ephemeral_for=ephemeral_for,
            metadata=fields.get("metadata"),
        )
        channel.messages[message.ts] = message
        self.version += 1
        return message

    def update(self, fields: dict[str, Any]) -> Message:
        channel = self._writable(str(fields.get("channel", "")))
        message = channel.messages.get(str(fields.get("ts", "")))
        if message is None:
            raise SlackError("message_not_found")
        text, blocks, attachments = _content(fields)
        message.text, message.blocks, message.attachments = text, blocks, attachments
        message.edited = self.next_ts()
        message.edits += 1
        self.version += 1
        return message

    def delete(self, channel_name: str, ts: str) -> Channel:
        channel = self.channel(channel_name)
        if channel.messages.pop(ts, None) is None:
            raise SlackError("message_not_found")
        self.version += 1
        return channel

    def next_ts(self) -> str:
        self._last_ts = max(int(self._clock() * 1e6), self._last_ts + 1)
        return f"{self._last_ts // 1_000_000}.{self._last_ts % 1_000_000:06d}"

    def snapshot(self) -> list[dict[str, Any]]:
        """Every message with its channel and, under a thread's first one, its replies."""
        shown: list[dict[str, Any]] = []
        for channel in self.channels.values():
            for message in channel.messages.values():
                if message.thread_ts in (None, message.ts):
                    shown.append(
                        {
                            **_plain(channel, message),
                            "replies": [_plain(channel, m) for m in channel.replies(message.ts)],
                        }
                    )
        return sorted(shown, key=lambda message: str(message["ts"]))

    def kept(self) -> tuple[dict[str, Channel], dict[str, dict[str, Any]]]:
        """Channels with their messages, and files without their bytes."""
        return self.channels, self.files

    def bring_back(self, kept: tuple[dict[str, Channel], dict[str, dict[str, Any]]]) -> None:
        self.channels, self.files = kept
        for name in self.settings.slack_channels:
            self.open_channel(name)

    def _writable(self, name: str) -> Channel:
        channel = self.channel(name)
        if channel.archived:
            raise SlackError("is_archived")
        if not channel.member:
            raise SlackError("not_in_channel")
        return channel


def _plain(channel: Channel, message: Message) -> dict[str, Any]:
    names = ["ts", "thread_ts", "text", "blocks", "attachments", "edited", "edits", "ephemeral_for"]
    return {
        "channel": channel.name,
        "channel_id": channel.id,
        **{name: getattr(message, name) for name in names},
        "files": [f["name"] for f in message.files],
    }


def _content(
    fields: dict[str, Any],
) -> tuple[str, list[dict[str, Any]], list[dict[str, Any]]]:
    """Text, blocks and attachments, refused where Slack refuses them."""
    text = str(fields.get("text") or "")
    blocks = fields.get("blocks") or []
    attachments = fields.get("attachments") or []
    if not (text or blocks or attachments):
        raise SlackError("no_text")
    if len(text) > TEXT_LIMIT:
        raise SlackError("msg_too_long")
    if not isinstance(blocks, list) or not isinstance(attachments, list):
        raise SlackError("invalid_blocks_format")
    check_blocks(blocks)
    for attachment in attachments:
        check_blocks(attachment.get("blocks") or [])
    return text, blocks, attachments


def check_blocks(blocks: list[dict[str, Any]]) -> None:
    """Slack's published limits of blocks.

    Raises:
        SlackError: `invalid_blocks`, with what is wrong.
    """
    if len(blocks) > BLOCK_LIMIT:
        raise SlackError("invalid_blocks", f"no more than {BLOCK_LIMIT} items allowed")
    for number, block in enumerate(blocks):
        kind = block.get("type")
        texts = [block.get("text"), *(block.get("fields") or [])]
        limits = [HEADER_LIMIT if kind == "header" else SECTION_LIMIT]
        limits += [2_000] * len(block.get("fields") or [])
        for text, limit in zip(texts, limits, strict=True):
            length = len((text or {}).get("text") or "")
            if text is not None and not 0 < length <= limit:
                raise SlackError(
                    "invalid_blocks", f"blocks[{number}]: text must have 1 to {limit} characters"
                )
        if kind == "section" and not (block.get("text") or block.get("fields")):
            raise SlackError("invalid_blocks", f"blocks[{number}]: a section needs text or fields")
        for name, limit in (("elements", 25 if kind == "actions" else 10), ("fields", 10)):
            if kind != "rich_text" and len(block.get(name) or []) > limit:
                raise SlackError("invalid_blocks", f"blocks[{number}]: more than {limit} {name}")
