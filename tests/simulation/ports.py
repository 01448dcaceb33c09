"""What production code finds in place of time, network, disk and Prefect."""

import asyncio
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import aiosmtplib
import apprise
from slack_sdk import signature
from slack_sdk.web.async_client import AsyncWebClient
from sqlalchemy.connectors import asyncio as connectors
from sqlalchemy.dialects.sqlite import aiosqlite
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.ext.asyncio import engine as alchemy_engine
from sqlalchemy.ext.asyncio import result as alchemy_result
from sqlalchemy.ext.asyncio import session as alchemy_session

from linekeeper import clock, runtime
from linekeeper.consumer import alive as consumer_alive
from linekeeper.consumer import service
from linekeeper.consumer import waker as consumer_waker
from linekeeper.inbox import sqlite_writer
from linekeeper.makini import http_client
from linekeeper.outbox.senders import prefect as prefect_sender
from linekeeper.receiver import beat as receiver_beat
from linekeeper.receiver import standby
from linekeeper.settings import Settings
from linekeeper.store import Store, configuration, leases, processes, sqlite
from linekeeper.store import engine as store_engine
from linekeeper.store import session as store_session
from linekeeper.store.migrate import migrate
from linekeeper.store.schema import MIGRATIONS
from linekeeper.watch import answers
from linekeeper.watch import service as watching
from linekeeper.watch.decide import Part
from tasks.prefect_adapter import links, lost_runs
from tests.simulation import machine, slack
from tests.simulation.flow_runs import BEAT_SECONDS as BEAT
from tests.simulation.machine import seed_of
from tests.simulation.makini.http import CLIENT_ID, CLIENT_SECRET
from tests.simulation.makini.truth import ENTITIES
from tests.simulation.makini.webhooks import WEBHOOK_SECRET
from tests.simulation.net import SimTransport
from tests.simulation.product import FORWARD_SECRET
from tests.simulation.rare import RECEIVER_BEAT_SECONDS
from tests.simulation.secrecy import KEY, SMTP_URL
from tests.simulation.task_engine import installed
from tests.simulation.universe import Universe

OFTEN_SECONDS = 300.0
IDLE_SECONDS = 600.0
SELDOM_SECONDS = 1800.0
"""How often a loop of the consumer looks although nothing changed and nothing is due."""
BEAT_SECONDS = 400.0
SLOW_SECONDS = 5.0
"""How long other destinations wait beside one that is slow."""
AWAY_SECONDS = 120.0
"""How often Prefect is tried while it is away."""
WATCH_SECONDS = 900.0
"""How often the parts watch each other, and say that they have the database open."""
LOOK_SECONDS = 0.5
"""The least between two looks at what is due."""
HEARTBEATS = SimpleNamespace(flows=SimpleNamespace(heartbeat_frequency=BEAT))
"""Prefect's settings, as far as whoever looks for lost runs asks for them."""


@contextmanager
def machines(universe: Universe) -> Iterator[None]:
    """Time, chance, network, disk and Prefect replaced for the block; settings as given."""
    environment = {
        "HOME": str(universe.home), "ENCRYPTION_KEYS": KEY, "MAKINI_API_URL": "https://makini.sim",
        "MAKINI_LINK_URL": "https://link.makini.sim", "MAKINI_CLIENT_ID": CLIENT_ID,
        "MAKINI_CLIENT_SECRET": CLIENT_SECRET, "MAKINI_WEBHOOK_SECRETS": WEBHOOK_SECRET,
        "MAKINI_MODE": "manage", "MAKINI_BODIES": ",".join(ENTITIES),
        "MAKINI_ENTITIES": ",".join(universe.entities), "WATCH_MINUTES": "30",
        "CANARY_MINUTES": "0",  # it goes through a real socket
        "PUBLIC_URL": "https://linekeeper.sim", "FORWARD_URL": "https://product.sim/hook",
        "FORWARD_SECRET": FORWARD_SECRET, "SLACK_BOT_TOKEN": slack.TOKEN,
        "SLACK_SIGNING_SECRET": slack.SIGNING_SECRET, "NOTIFY_CUSTOMERS": "true",
        "SMTP_URL": SMTP_URL, "MAIL_FROM": "Linekeeper <it@operator.example>",
        "SLACK_CHANNEL": slack.CHANNEL, "SLACK_API_URL": f"https://{slack.HOST}/api/",
    }  # fmt: skip
    undo: list[tuple[Any, str, Any]] = []

    def put(owner: Any, name: str, value: Any) -> None:
        undo.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    kept = dict(os.environ)
    for name, value in environment.items():
        os.environ[f"LINEKEEPER_{name}"] = value
    universe.keys = [KEY]
    universe.use_keys = partial(_use_keys, universe)
    before = clock.use(universe.clock)
    machine.DISK = universe.disk
    put(sqlite, "SqliteConnection", machine.InlineConnection)
    put(connectors, "await_", machine.await_at_once)
    put(aiosqlite, "await_", machine.await_at_once)
    put(sqlite, "await_only", machine.await_at_once)
    for module in (alchemy_engine, alchemy_session, alchemy_result, store_session):
        put(module, "greenlet_spawn", machine.spawn_at_once)
    for module in (alchemy_engine, alchemy_session):
        put(module, "_run_to_completion", machine.at_once)
    put(answers, "_ask", _ask_receiver(universe))
    put(runtime, "Settings", cache(Settings))
    put(runtime, "new_owner", lambda: f"sim:1:{clock.token_bytes(4).hex()}")
    put(store_engine, "create_async_engine", machine.share_compiled(create_async_engine))
    put(sqlite_writer.sqlite3, "connect", machine.connect_inline)
    put(Store, "clock", _clock_of_database(universe))
    put(http_client, "open_transport", lambda _: SimTransport(universe.network))
    put(aiosmtplib, "SMTP", universe.mail.client)
    put(apprise, "Apprise", universe.pager.client)
    put(signature.Clock, "now", lambda _: clock.utcnow().timestamp())
    put(AsyncWebClient, "api_call", slack.calls_through(universe.network))
    put(leases, "acquire", universe.leases.taking(leases.acquire))
    put(leases, "renew", universe.leases.renewing(leases.renew))
    put(leases, "release", universe.leases.giving_back(leases.release))
    put(lost_runs, "get_current_settings", lambda: HEARTBEATS)
    put(links, "_run_knows", {})  # what a process remembers of runs: their ids come again
    put(links, "_listed", {})
    put(os, "urandom", Random(seed_of(universe.plan.seed, "urandom")).randbytes)
    for owner, name, value in (
        (service, "OUTBOX_EVERY", 2 * IDLE_SECONDS), (service, "RECONNECTS_EVERY", OFTEN_SECONDS),
        (service, "IMPLEMENTATIONS_EVERY", SELDOM_SECONDS),
            (service, "OUTAGES_EVERY", IDLE_SECONDS),
        (service, "BLOCKS_EVERY", OFTEN_SECONDS), (service, "LINKS_EVERY", 3600.0),
        (service, "MISSING_LINKS_EVERY", OFTEN_SECONDS),
        (service, "STREAM_EVERY", SELDOM_SECONDS), (service, "LOGINS_EVERY", OFTEN_SECONDS),
        (service, "ENDING_EVERY", SELDOM_SECONDS), (service, "INTERRUPTED_EVERY", IDLE_SECONDS),
        (watching, "FASTEST_BEAT", WATCH_SECONDS), (watching, "SLOWEST_BEAT", WATCH_SECONDS),
        (consumer_waker, "LOOK_SECONDS", LOOK_SECONDS),
        (service, "SEALING_EVERY", SELDOM_SECONDS),
        (service, "DEAD_AFTER", timedelta(seconds=3.5 * BEAT_SECONDS)),
        (service, "BEAT_SECONDS", BEAT_SECONDS), (service, "SOCKETS_EVERY", SELDOM_SECONDS),
        (processes, "SIGN_SECONDS", WATCH_SECONDS), (processes, "LOOK_SECONDS", 15.0),
        (processes, "SILENT_AFTER", timedelta(minutes=45)),
        (service, "BUSY_SECONDS", SLOW_SECONDS),
        (prefect_sender, "AWAY_SECONDS", AWAY_SECONDS),
        (prefect_sender.EventSender, "longest_pause", AWAY_SECONDS),
        (prefect_sender.RunSender, "longest_pause", AWAY_SECONDS),
        (configuration, "FRESH_SECONDS", 60.0),
        (consumer_alive, "DEAD_AFTER", timedelta(seconds=3.5 * BEAT_SECONDS)),
        (standby, "ABSENT_AFTER", timedelta(seconds=2.5 * WATCH_SECONDS)),
        (standby, "QUIET_AFTER", timedelta(seconds=2.5 * WATCH_SECONDS)),
        (standby, "STREAM_EVERY", OFTEN_SECONDS),
        (receiver_beat, "BEAT_SECONDS", RECEIVER_BEAT_SECONDS),
        (receiver_beat, "_GAP", timedelta(seconds=3 * RECEIVER_BEAT_SECONDS)),
        (consumer_waker.Waker, "run", _wake(universe)),
    ):  # fmt: skip
        put(owner, name, value)
    try:
        with installed(universe.prefect), universe.logs.kept():
            yield
    finally:
        for owner, name, value in reversed(undo):
            setattr(owner, name, value)
        clock.use(before)
        os.environ.clear()
        os.environ.update(kept)


def _clock_of_database(universe: Universe) -> Callable[..., Awaitable[datetime]]:
    """`Store.clock`: that of the database's machine, whatever one process believes."""

    async def shared(store: Store, session: Any) -> datetime:
        return universe.now() + universe.machine_skew

    return shared


def _use_keys(universe: Universe, keys: list[str]) -> None:
    """What starts from now on finds these in its environment."""
    universe.keys = keys
    os.environ["LINEKEEPER_ENCRYPTION_KEYS"] = ",".join(keys)
    settings: Any = runtime.Settings
    settings.cache_clear()


def _ask_receiver(universe: Universe) -> Callable[..., Awaitable[answers.ReceiverAnswer]]:
    """`watch.answers._ask`: the one receiver there is, whatever its address."""

    async def ask(part: Part, *, timeout: float, again: float) -> answers.ReceiverAnswer:
        for _ in range(answers.TRIES):
            answer = await universe.request("GET", "/healthz", {}, b"")
            if answer is not None and answer.status == 200:
                return answers.ReceiverAnswer(part)
            await asyncio.sleep(again)
        return answers.ReceiverAnswer(part, "it did not answer")

    return ask


def _wake(universe: Universe) -> Callable[[Any], Awaitable[None]]:
    """`Waker.run`, woken by commits and by the time of the next row, instead of by polls."""

    async def run(waker: Any) -> None:
        changed = asyncio.Event()
        universe.disk.watchers.append(changed.set)
        database = machine.connect_inline(str(universe.home / "linekeeper.db"))
        while True:
            changed.clear()
            # Due is what is by its own clock, and by that of the database.
            now = min(clock.utcnow(), universe.now() + universe.machine_skew)
            text = now.isoformat(timespec="microseconds")
            found = database.execute(_LOOK, (text,)).fetchone()
            for place, what in enumerate(_WAITED_FOR):
                if found[2 * place]:
                    waker.wake(what)
            seconds = _until_next(found[1::2], now)
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await changed.wait()
            await asyncio.sleep(consumer_waker.LOOK_SECONDS)

    return run


_WAITED_FOR = {
    consumer_waker.CONNECTION_WEBHOOKS: "webhook_event WHERE rank = 0",
    consumer_waker.RECORD_WEBHOOKS: "webhook_event WHERE rank = 1",
    **{name: f"outbox WHERE channel = '{name}'" for name in consumer_waker.CHANNELS},
}
_LOOK = "SELECT " + ", ".join(
    f"EXISTS (SELECT 1 FROM {rows} AND status = 'pending' AND next_attempt_at <= ?1),"
    f" (SELECT min(next_attempt_at) FROM {rows} AND status = 'pending' AND next_attempt_at > ?1)"
    for rows in _WAITED_FOR.values()
)
"""Of each, whether there is something due, and when there is next."""


def _until_next(times: Sequence[str | None], now: datetime) -> float:
    waits = [(datetime.fromisoformat(each) - now).total_seconds() for each in times if each]
    return max(0.05, min(waits, default=3600.0))


def template() -> Path:
    """A migrated database to copy from, for every process that has the same migrations.

    Ask for it before a defect is planted: it stays.
    """
    made = _template()
    if not made.exists():
        made.parent.mkdir(mode=0o700, exist_ok=True)
        home = Path(tempfile.mkdtemp(prefix="making-", dir=made.parent))

        async def make() -> None:
            settings = Settings(home=home, encryption_keys=KEY)  # type: ignore[arg-type]
            async with Store.open(settings) as store:
                await migrate(store)

        asyncio.run(make())
        with sqlite3.connect(home / "linekeeper.db") as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (home / "linekeeper.db").rename(made)  # whole, whoever makes it at the same time
        shutil.rmtree(home)
    return made


@cache
def _template() -> Path:
    """Where it is, by what the schema is made from."""
    read = sha256(KEY.encode())
    for file in sorted(MIGRATIONS.rglob("*.py")):
        read.update(file.read_bytes())
    folder = Path(tempfile.gettempdir()) / f"linekeeper-simulation-{os.getuid()}"
    return folder / f"{read.hexdigest()[:16]}.db"
