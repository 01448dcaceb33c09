"""When the database is gone: one part that needs it no more to say so, says so once."""

import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import IO

from linekeeper.config import SlackConfig
from linekeeper.notify.compose import Rendered
from linekeeper.notify.refusals import SlackTrouble
from linekeeper.notify.slack_channel import ChannelClient, Pacer, Posted, open_channel
from linekeeper.private import make_private_folder

LONGEST_SILENCE = timedelta(minutes=2)
"""A database that restarts or fails over is back by then."""
_SAID_GONE = "database-gone-"
log = logging.getLogger(__name__)


@dataclass(slots=True)
class DatabaseWatch:
    """What one part knows of the database from its own attempts. Times are monotonic seconds."""

    part: str
    """Who speaks, such as `the receiver on node-1`."""
    silence: timedelta
    failing_since: float | None = None
    failing_from: datetime | None = None
    notified_from: datetime | None = None
    """Since when it is gone, as was said; None once it was said to be back."""

    def failed(self, reason: str, *, monotonic: float, now: datetime) -> str | None:
        """An attempt failed; what is to be said now, if anything. Said once for each outage."""
        if self.failing_since is None or self.failing_from is None:
            self.failing_since, self.failing_from = monotonic, now
        if (
            self.notified_from is not None
            or monotonic - self.failing_since < self.silence.total_seconds()
        ):
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
        """An attempt succeeded; what is to be said now, if anything, until it was said."""
        self.failing_since = self.failing_from = None
        if self.notified_from is None:
            return None
        return (
            f":large_green_circle: *Linekeeper's database can be used again*, says {self.part}; "
            f"it could not since {self.notified_from:%Y-%m-%d %H:%M} UTC."
        )


class SaidGone:
    """Files in a folder: who said that the database is gone, and has not said that it is back.

    Each is locked by its writer, so that one that nobody has locked is of a process that ended:
    others say the end in its place. Where nothing can be written, nobody will know of it.
    """

    def __init__(self, folder: Path, owner: str) -> None:
        self._file = folder / f"{_SAID_GONE}{owner.replace('/', '_')}"
        self._held: IO[str] | None = None

    def write(self, since: datetime) -> None:
        """Note that this process said so, of an outage since then."""
        with suppress(OSError):
            make_private_folder(self._file.parent)  # with PostgreSQL nothing else may be in it
            self._held = self._file.open("w")
            flock(self._held, LOCK_EX | LOCK_NB)
            self._held.write(since.isoformat())
            self._held.flush()

    def forget(self) -> None:
        """It was said that it is back."""
        if self._held is not None:
            with suppress(OSError):
                self._file.unlink()
                self._held.close()
            self._held = None

    def take_over(self) -> datetime | None:
        """Take what ended processes left, for this one to say: since when it was, if there is any.

        Of several who ask at once, one gets it.
        """
        taken = []
        for file in self._file.parent.glob(f"{_SAID_GONE}*"):
            with suppress(OSError), file.open("r+") as left:
                flock(left, LOCK_EX | LOCK_NB)
                if os.fstat(left.fileno()).st_nlink:  # another one may have taken it meanwhile
                    written = datetime.fromtimestamp(file.stat().st_mtime, UTC)
                    with suppress(ValueError):  # cut off: it was written then, at least
                        written = datetime.fromisoformat(left.read())
                    file.unlink()
                    taken.append(written)
        return min(taken, default=None)


async def say_directly(slack: SlackConfig | None, text: str, *, key: str, since: datetime) -> bool:
    """Post `text` without the outbox; False if Slack doesn't take it now.

    Where another part has said the same, under `key`, since then, it goes into that one's thread.
    """
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
