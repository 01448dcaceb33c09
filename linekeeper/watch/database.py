"""When the database is gone: one part that needs it no more to say so, says so once."""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from linekeeper.config import SlackConfig
from linekeeper.notify.compose import Rendered
from linekeeper.notify.refusals import SlackTrouble
from linekeeper.notify.slack_channel import ChannelClient, Pacer, Posted, open_channel

LONGEST_SILENCE = timedelta(minutes=2)
"""A database that restarts or fails over is back by then."""
log = logging.getLogger(__name__)


@dataclass(slots=True)
class DatabaseWatch:
    """What one part knows of the database from its own attempts. Times are monotonic seconds."""

    part: str
    """Who speaks, such as `the receiver on node-1`."""
    silence: timedelta
    failing_since: float | None = None
    failing_from: datetime | None = None
    has_notified: bool = False

    def failed(self, reason: str, *, monotonic: float, now: datetime) -> str | None:
        """An attempt failed; what is to be said now, if anything. Said once for each outage."""
        if self.failing_since is None or self.failing_from is None:
            self.failing_since, self.failing_from = monotonic, now
        if self.has_notified or monotonic - self.failing_since < self.silence.total_seconds():
            return None
        return (
            f":red_circle: *Linekeeper's database can't be used* since "
            f"{self.failing_from:%Y-%m-%d %H:%M} UTC, says {self.part} ({reason}). Webhooks are "
            "answered 503, so that Makini sends them again; nothing is checked or notified until "
            "the database is back. Check the server, its disk and LINEKEEPER_DATABASE_URL "
            "(`linekeeper doctor` says what it answers); on SQLite also whether a process of "
            "Linekeeper hangs: it may hold the file's lock."
        )

    def worked(self) -> str | None:
        """An attempt succeeded; what is to be said now, if anything."""
        begun, notified = self.failing_from, self.has_notified
        self.failing_since = self.failing_from = None
        self.has_notified = False
        if begun is None or not notified:
            return None
        return (
            f":large_green_circle: *Linekeeper's database can be used again*, says {self.part}; "
            f"it could not since {begun:%Y-%m-%d %H:%M} UTC."
        )


async def say_directly(slack: SlackConfig | None, text: str, *, key: str, since: datetime) -> bool:
    """Post `text` without the outbox; False if Slack doesn't take it now.

    Where another part has said the same, under `key`, since then, it goes into that one's thread.
    """
    log.error("%s", text)
    if slack is None:
        return True
    try:
        async with open_channel(slack, Pacer()) as channel:
            first = await _said(channel, key, since)
            thread_ts = first.ts if first is not None else None
            await channel.post(Rendered(text), key=key, thread_ts=thread_ts)
    except SlackTrouble as trouble:
        log.warning("Slack could not be reached: %s", trouble)
        return not trouble.passing
    return True


async def _said(channel: ChannelClient, key: str, since: datetime) -> Posted | None:
    try:
        return await channel.find(key, channel_id=None, since=since)
    except SlackTrouble:
        return None  # better said twice than not at all
