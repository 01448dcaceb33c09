"""Looks at connections of which the product reports trouble: each soon, and none too often."""

import asyncio
import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from linekeeper.clock import utcnow
from linekeeper.makini import MakiniError
from linekeeper.runtime import Runtime, UnknownApp
from linekeeper.sweep.report_call import follow_up

APART = timedelta(seconds=10)
"""What is reported sooner after a look is looked at when this has passed: a product that goes on
with an old token reports each of its calls."""
AT_ONCE = 100
log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Reported:
    app: str
    at: datetime | None
    """When trouble was last reported; None once a probe asks about it."""


class FollowUps:
    """One task for each connection of which trouble was reported; it looks at once, then waits.

    What is lost with this process the next sweep does: the connection is suspect.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._rt = runtime
        self._reported: dict[str, _Reported] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(AT_ONCE)

    def note(self, app: str, connection_id: str) -> None:
        """Trouble of the connection was just reported, and is in the database."""
        if known := self._reported.get(connection_id):
            known.at = utcnow()
            return
        self._reported[connection_id] = _Reported(app, utcnow())
        task = asyncio.create_task(self._look(connection_id), name="follow-up of a report")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def end(self) -> None:
        """Leave what is not done to the next sweep."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _look(self, connection_id: str) -> None:
        reported = self._reported[connection_id]
        try:
            while reported.at is not None:
                since, reported.at = reported.at, None
                async with self._slots:
                    await follow_up(self._rt, reported.app, connection_id, since=since)
                await asyncio.sleep(APART.total_seconds())
        except (MakiniError, UnknownApp):
            return  # it is suspect: the next sweep looks again
        except Exception as error:
            # Whatever it was, the receiver goes on, and the next sweep looks again.
            log.warning("following up a report: %s", type(error).__name__)
        finally:
            del self._reported[connection_id]
