"""One universe: hosts of ours, peers that aren't, faults drawn from the seed, and a trace."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import parse_qsl

from linekeeper.consumer.service import run_consumer
from linekeeper.receiver.app import Receiver
from linekeeper.runtime import Runtime
from tests.simulation import machine, slack
from tests.simulation.asking import Asking
from tests.simulation.founding import set_up
from tests.simulation.heard import Evidence
from tests.simulation.invitations import invitations
from tests.simulation.leases import Leases
from tests.simulation.logs import Logs
from tests.simulation.loop import HOST, Host, VirtualLoop
from tests.simulation.lost_runs import looking
from tests.simulation.machine import SimClock, seed_of
from tests.simulation.mail_server import MailServer
from tests.simulation.makini.answers import Answer, Call, pause_headers
from tests.simulation.makini.http import Face
from tests.simulation.makini.personality import Personality
from tests.simulation.makini.truth import ENTITIES, Truth
from tests.simulation.makini.webhooks import (
    Post,
    Postman,
)
from tests.simulation.net import PEERS, Network, Request, call_asgi
from tests.simulation.new_events import new_events
from tests.simulation.pager import Pager
from tests.simulation.plan import Delivered, Plan
from tests.simulation.prefect import SimPrefect
from tests.simulation.product import Product
from tests.simulation.rehearsal import Rehearsal
from tests.simulation.second_acts import IN_THE_SOUTH, SECOND_ACTS_FROM
from tests.simulation.sending import Sending
from tests.simulation.workers import SCHEDULES, Workers

BEGINNINGS = (
    *[datetime(2026, 3, 2, 6, 0, tzinfo=UTC)] * 5,
    datetime(2026, 3, 29, 0, 20, tzinfo=UTC),  # summer time begins in Europe at one
    datetime(2026, 10, 25, 0, 20, tzinfo=UTC),  # and ends
    datetime(2026, 12, 31, 23, 10, tzinfo=UTC),
    datetime(2028, 2, 28, 23, 20, tzinfo=UTC),
)
"""When a universe may begin."""
ENDS_WITHIN = 100.0
"""Seconds from when a part is told to stop: a pair that is being renewed is waited for."""
SETTLE_SECONDS = 3000.0
"""How long it is calm before the last act."""


class Universe:
    """Everything that exists for one seed."""

    def __init__(self, plan: Plan, home: Path, *, trace: bool = False) -> None:
        self.plan = plan
        self.home = home
        self.loop = VirtualLoop(seed_of(plan.seed, "loop"))
        is_south = plan.seed >= SECOND_ACTS_FROM
        beginnings = (*BEGINNINGS, *IN_THE_SOUTH) if is_south else BEGINNINGS
        self.begins = Random(seed_of(plan.seed, "calendar")).choice(beginnings)
        self.clock = SimClock(self.loop, Random(seed_of(plan.seed, "ids")), self.begins)
        self.rng = Random(seed_of(plan.seed, "world"))
        self.personality = Personality.of(plan.seed, plan.personality)
        self.truth = Truth(Random(seed_of(plan.seed, "truth")), self.personality)
        self.face = Face(self.truth)
        self.postman = Postman(self.truth)
        self.product = Product(self.clock.true_now)
        self.slack = slack.Slack(self.clock.true_now)
        self.mail = MailServer(self.clock.true_now, Random(seed_of(plan.seed, "mail")))
        self.pager = Pager(self.clock.true_now, Random(seed_of(plan.seed, "pager")))
        self.prefect = SimPrefect(self.clock.true_now, self.clock.new_id)
        self.prefect.server_now = lambda: self.now() + self.machine_skew
        self.leases = Leases(self.clock.true_now)
        self.logs = Logs()
        self.network = Network(self.loop, Random(seed_of(plan.seed, "net")), self.say)
        self.evidence = Evidence(self)
        self.asking = Asking(self)
        self.pages: list[bytes] = []  # what the receiver answered, but for tokens
        self.network.pause = self._pause_headers
        self.network.answered = self.evidence.answered
        self.network.peers = {
            "makini.sim": self._makini, "product.sim": self._product,
            slack.HOST: self.slack.handle,
        }  # fmt: skip
        self.lines: list[str] = []
        self.delivered: list[Delivered] = []
        self.lost: list[Post] = []
        self.sending, self.workers = Sending(self), Workers(self)
        self.receiver: tuple[Host, Receiver] | None = None
        self.zones: dict[str, str] = {}  # where customers are, by address
        self.calm = self.is_lull = False
        self.calm_since = self.begins
        self.found: list[str] = []  # what is broken already
        self.trouble: Any = None  # how trouble is drawn
        self.people: Any = None  # the trouble that was drawn, and the people in it
        self.acted: set[str] = set()  # the second acts that came about
        self.crashed_at: list[datetime] = []
        self.stopped_at: list[datetime] = []
        self.keys: list[str] = []  # the first one encrypts
        self.use_keys: Callable[[list[str]], None] = lambda _: None
        self.workers_away = False
        self.machine_skew = timedelta()  # how far the clock of the whole machine is off
        self._mains: dict[str, asyncio.Task[Any]] = {}
        self.hosts: list[Host] = []
        self._peers: list[asyncio.Task[Any]] = []
        self.disk = machine.Disk()
        self._observer: sqlite3.Connection | None = None
        shape = Random(seed_of(plan.seed, "shape"))
        self.entities = tuple(sorted(shape.sample(ENTITIES, shape.choice((1, 2, 2, 3)))))
        self.pace = shape.choice((1.5, 2.0)) * plan.pace  # schedules are so much slower

    def forget(self) -> None:
        """Let go of what was in it, once it is judged: tasks that hang for good hold it."""
        if self._observer is not None:
            self._observer.close()
        for model in (
            self.network, self.truth, self.face, self.postman, self.product, self.slack, self.mail,
            self.prefect, self.evidence, self.asking, self.people, self.logs, self,
        ):  # fmt: skip
            vars(model).clear()

    # --- telling

    def now(self) -> datetime:
        """The true time."""
        return self.clock.true_now()

    def say(self, text: str) -> None:
        """One line of the trace."""
        self.lines.append(f"{self.now():%d %H:%M:%S.%f} {text}")

    # --- peers

    def _makini(self, request: Request) -> Answer:
        query = dict(parse_qsl(request.query, keep_blank_values=True))
        return self.face.answer(
            Call(request.method, request.path, query, request.headers, request.body, self.now())
        )

    def _pause_headers(self, host: str, seconds: float) -> dict[str, str]:
        style = self.personality.retry_after_as if host == "makini.sim" else "seconds"
        return pause_headers(seconds, style, self.now())

    def _product(self, request: Request) -> Answer:
        return self.product.handle(request)

    # --- hosts

    def start(self, name: str, main: Callable[[Host], Awaitable[None]]) -> tuple[Host, Any]:
        """A process that runs `main`."""
        host = Host(name)
        host.skew = self.machine_skew
        self.hosts.append(host)
        context = PEERS.copy()
        context.run(HOST.set, host)
        task = self.loop.create_task(main(host), name=name, context=context)
        self._mains[name] = task
        return host, task

    async def _receive(self, host: Host) -> None:
        async with Runtime.open() as rt, Receiver.open(rt) as receiver:
            self.receiver = (host, receiver)
            await asyncio.Event().wait()

    async def _consume(self, host: Host) -> None:
        async with Runtime.open() as rt:
            await run_consumer(
                rt, self.prefect, find_links=self.prefect.find_links, stop=asyncio.Event(),
                also=[looking(self)],
            )  # fmt: skip

    async def request(
        self, method: str, path: str, headers: dict[str, str], body: bytes, query: str = ""
    ) -> Answer | None:
        """Ask the receiver from outside; None where it doesn't answer."""
        if self.receiver is None or self.receiver[0].dead:
            return None
        host, app = self.receiver
        context = PEERS.copy()
        context.run(HOST.set, host)
        task = self.loop.create_task(
            call_asgi(app, method, path, query, headers, body), context=context
        )
        done, _ = await asyncio.wait([task], timeout=10.0)
        if not done or host.dead:
            return None
        answer = task.result() if not task.exception() else None
        if answer is not None and not (path.endswith("/token") and answer.status == 200):
            self.pages.append(answer.body)
        return answer

    def later(self, seconds: float, work: Any) -> None:
        """Let somebody outside do `work` in so many seconds."""

        async def wait() -> None:
            await asyncio.sleep(seconds)
            await work

        self.spawn(wait())

    def spawn(self, work: Any) -> None:
        """Let somebody outside do `work`."""
        self._peers.append(self.loop.create_task(work, context=PEERS.copy()))

    # --- what Linekeeper says

    def is_open(self, key: str, kind: str) -> bool:
        """Whether an incident of `kind` is open about the connection."""
        rows = self.ask(
            "SELECT 1 FROM incident_connection m JOIN incident i ON i.id = m.incident_id"
            " JOIN connection c ON c.id = m.connection_id WHERE c.makini_key = ?"
            " AND m.kind = ? AND m.left_at IS NULL AND i.status != 'resolved'", (key, kind),
        )  # fmt: skip
        return bool(rows)

    def ask(self, statement: str, values: tuple[Any, ...]) -> list[Any]:
        """What the database holds now; on no process's behalf, so that it never fails."""
        if self._observer is None:  # opened once: to read the schema takes longer than to ask
            self._observer = machine.observe(self.home / "linekeeper.db")
        return self._observer.execute(statement, values).fetchall()

    def shown_of(self, name: str) -> list[str]:
        """What the channel shows about a customer now."""
        return [message.text for message in self.slack.channel if name in message.text]

    def trouble_is_on(self, kind: str) -> bool:
        """Whether this universe has that kind of trouble, and it may happen now."""
        return kind in self.people.kinds and self.faulty(kind)

    def faulty(self, kind: str) -> bool:
        """Whether faults of this kind may happen now."""
        wanted = self.plan.kinds
        is_quiet = self.calm or self.is_lull
        return self.plan.faults and not is_quiet and (not wanted or kind in wanted)

    async def _live(self) -> None:
        """Records change in the customers' systems."""
        while True:
            await asyncio.sleep(self.rng.expovariate(1 / (240.0 * self.plan.pace)))
            if self.calm:
                continue
            living = [each for each in self.truth.living() if each.offers]
            if not living:
                continue
            connection = self.rng.choice(living)
            entity = self.rng.choice(connection.offers)
            how = self.rng.choices(("inserted", "updated", "deleted"), (5, 12, 1))[0]
            self.say(f"record of {connection.key} {entity} {how}")
            for _ in range(self.rng.choice((1, 1, 1, 1, 2, 9))):
                self.truth.change(connection, entity, self.now(), how)

    async def _trouble(self) -> None:
        """Processes crash."""
        while True:
            await asyncio.sleep(self.rng.expovariate(1 / 2400.0))
            if not self.faulty("crash"):
                continue
            name = self.rng.choice(("receiver", "consumer", "worker"))
            if name == "consumer" and "second" in self.people.kinds:
                name = self.rng.choice(("consumer", "second consumer"))
            self.hosts = [host for host in self.hosts if not host.dead]
            for host in self.hosts:
                if host.name.startswith(name):
                    self.crash(host)

    def crash(self, host: Host) -> None:
        """Cut the power of `host`."""
        self.say(f"crash of {host.name}")
        self.crashed_at.append(self.now())
        host.crashed, host.interrupted_at = True, self.now()
        host.cut()

    def stop(self, name: str) -> None:
        """Tell the processes so called to end: their main tasks are cancelled."""
        for host in self.hosts:
            main = self._mains.get(host.name)
            if host.name.startswith(name) and not host.dead and main and not main.done():
                self.say(f"{host.name} is told to stop")
                self.stopped_at.append(self.now())
                host.interrupted_at = self.now()
                main.cancel()
                if name in ("receiver", "consumer"):
                    self.later(ENDS_WITHIN, self._has_ended(host, self.now()))

    async def _has_ended(self, host: Host, asked_at: datetime) -> None:
        if not (host.dead or host.stalled):
            self.found.append(f"stop: {host.name} was told to at {asked_at:%H:%M:%S}, and goes on")

    async def _supervise(self, name: str, main: Callable[[Host], Awaitable[None]]) -> None:
        """Start a process, and again when it is gone."""
        while True:
            host, task = self.start(name, main)
            gone = self.loop.create_task(host.gone.wait(), context=PEERS.copy())
            await asyncio.wait([gone, task], return_when=asyncio.FIRST_COMPLETED)
            gone.cancel()
            if task.done():
                if not task.cancelled() and task.exception() is not None:
                    self.say(f"{name} ended: {task.exception()!r}")
                host.cut()
            await asyncio.sleep(self.rng.choice((1.0, 5.0, 40.0)))

    # --- the whole

    async def live(self) -> None:
        """Live through the plan's hours, then a calm in which everything settles."""
        await set_up(self)
        self.people = trouble = self.trouble(self)
        self.say(f"Makini: {self.personality.words()}")
        self.say(f"trouble: {', '.join(sorted(trouble.kinds)) or 'only crashes and webhooks'}")
        peers = [
            self._supervise("receiver", self._receive),
            self._supervise("consumer", self._consume),
            self.sending.live(), self._live(), self._trouble(), self.workers.live(),
            *trouble.start(),
            *(self.workers.schedule(name, every * self.pace) for name, every in SCHEDULES.items()),
        ]  # fmt: skip
        if "second" in trouble.kinds:
            peers.append(self._supervise("second consumer", self._consume))
        for is_so, peer in (
            (self.personality.sync_events, self.sending.synchronize),
            (self.personality.magic_links, partial(invitations, self)),
            (self.personality.new_events, partial(new_events, self)),
        ):
            peers += [peer()] if is_so else []
        self._peers += [self.loop.create_task(peer, context=PEERS.copy()) for peer in peers]
        await asyncio.sleep(self.plan.hours * 1800)
        if self.plan.lull:
            self.say("lull")
            self.is_lull = True
            await asyncio.sleep(self.plan.lull * 3600)
            self.is_lull = False
            self.say("the lull is over")
        await asyncio.sleep(self.plan.hours * 1800)
        self.calm, self.calm_since = True, self.now()
        trouble.end()
        self.say("calm")
        settled = SETTLE_SECONDS if trouble.kinds - {"none"} else 300.0
        await asyncio.sleep(settled * self.plan.pace)
        await Rehearsal(self, trouble).play()
        await self.asking.ask()
