"""What `linekeeper up` does about parts that die or hang: people are notified."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta

from sqlalchemy.exc import SQLAlchemyError

from linekeeper.cli.supervisor import Supervisor
from linekeeper.clock import monotonic, utcnow
from linekeeper.incidents.announce import say
from linekeeper.settings import Settings
from linekeeper.store import KeyProblem, Store, StoreError
from linekeeper.store.write_lock import holder_of_write_lock
from linekeeper.watch.decide import WATCHERS, WatchPolicy, examine
from linekeeper.watch.queries import read_parts
from linekeeper.watch.service import after_of

CHILDREN = {
    "consumer": "consumer",
    "receiver": "receiver",
    "worker": "worker",
    "prefect": "Prefect server",
}
"""Kind of part → the name of the child that is it."""
SLOWEST_LOOK = 15.0
CLOCK_EVERY = 15.0
QUIET_WITHIN, QUIET_EVERY = 60.0, 0.5
"""How long a moment without runs is waited for, in seconds, and how often is looked for it."""
SET_BACK = timedelta(minutes=1)
"""A clock that was set back by less is of no account."""
_TROUBLE = (SQLAlchemyError, OSError, StoreError, KeyProblem)


async def notify_of_restart(
    settings: Settings, name: str, how: str, report: Callable[[str], None]
) -> None:
    """Notify people that the part `name` had ended and was started again."""
    now = utcnow()
    text = (
        f":warning: Linekeeper's *{name}* ended ({how}) and was started again at "
        f"{now:%H:%M:%S} UTC. Its log is in {settings.home.resolve() / 'logs'}; "
        "`linekeeper doctor` shows every part."
    )
    try:
        async with Store.open(settings) as store, store.write() as session:
            await say(store, session, f"restart:{name}:{now:%Y%m%d%H%M%S}", text, now)
    except _TROUBLE as error:
        report(f"people could not be notified of it: {type(error).__name__}")


async def restart_what_hangs(settings: Settings, supervisor: Supervisor) -> None:
    """Kill children that are silent for `WATCH_MINUTES`, until cancelled; they are restarted.

    Neither one that was started since, nor one that could say nothing because the machine slept.
    Where nobody could write for so long, it is whoever holds SQLite's write lock, a run included.
    """
    after = after_of(settings)
    seconds = after.total_seconds()
    watched_since = looked_at = None
    async with Store.open(settings) as store:
        while True:
            await asyncio.sleep(min(seconds / 4, SLOWEST_LOOK))
            with suppress(*_TROUBLE):
                async with store.read() as session:
                    now = await store.clock(session)
                    parts = await read_parts(session)
                if looked_at is None or not looked_at <= now < looked_at + after:
                    watched_since = now  # the machine slept, or its clock was set
                looked_at = now
                if watched_since is None or now - watched_since < after:
                    continue
                if now - max((part.at for part in parts), default=now) >= after:
                    supervisor.kill_process(holder_of_write_lock(settings), older=seconds)
                silent = examine(parts, WatchPolicy(after, has_apps=False), now=now).silent
                for part in (part for part in parts if part.name in silent):
                    if part.kind not in WATCHERS:
                        supervisor.kill(CHILDREN[part.kind], older=seconds)
                    elif part.host == socket.gethostname() and part.process_id is not None:
                        supervisor.kill(CHILDREN[part.kind], part.process_id, older=seconds)


async def restart_prefect_when_set_back(
    supervisor: Supervisor, is_busy: Callable[[], Awaitable[bool]]
) -> None:
    """Start Prefect's server again each time the clock was set back, until cancelled.

    Its own services (which notice late runs, end waits, see that a worker is gone) wait by the
    wall clock: they would not run again until that shows the time it had shown before. A run that
    is under way, and above all one that is being started, would crash without the server, so it is
    restarted where it `is_busy` with none, or a minute later.
    """
    while True:
        before, since = utcnow(), monotonic()
        await asyncio.sleep(CLOCK_EVERY)
        late = before + timedelta(seconds=monotonic() - since) - utcnow()
        if late > SET_BACK:
            for _ in range(int(QUIET_WITHIN / QUIET_EVERY)):
                if not await is_busy():
                    break
                await asyncio.sleep(QUIET_EVERY)
            minutes = round(late.total_seconds() / 60)
            supervisor.restart(CHILDREN["prefect"], f"the clock was set back by {minutes} min")
