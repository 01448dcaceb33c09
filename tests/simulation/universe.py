"""One universe: hosts of ours, peers that aren't, faults drawn from the seed, and a trace."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from linekeeper.consumer.service import run_consumer
from linekeeper.receiver.app import Receiver
from linekeeper.runtime import Runtime
from tests.simulation import machine, slack
from tests.simulation.asking import Asking
from tests.simulation.flow_runs import SimRun
from tests.simulation.founding import set_up
from tests.simulation.heard import Evidence
from tests.simulation.invitations import invitations
from tests.simulation.leases import Leases
from tests.simulation.logs import Logs
from tests.simulation.loop import HOST, Host, VirtualLoop
from tests.simulation.lost_runs import looking
from tests.simulation.machine import SimClock, seed_of
from tests.simulation.mail_server import MailServer
from tests.simulation.makini.http import Answer, Call, Face, pause_headers
from tests.simulation.makini.personality import (
    LATEST_LIBERTIES_FROM,
    LIBERTIES_FROM,
    MORE_LIBERTIES_FROM,
    Personality,
)
from tests.simulation.makini.truth import ENTITIES, Truth
from tests.simulation.makini.webhooks import (
    NOT_SYNCED,
    RETRY_FIRST,
    RETRY_FOR,
    SYNCED,
    Post,
    Postman,
)
from tests.simulation.net import PEERS, Network, Request, call_asgi
from tests.simulation.new_events import new_events
from tests.simulation.pager import Pager
from tests.simulation.prefect import SimPrefect
from tests.simulation.product import Product
from tests.simulation.rehearsal import Rehearsal
from tests.simulation.second_acts import IN_THE_SOUTH, SECOND_ACTS_FROM

SCHEDULES = {
    "health-sweep": 300.0, "reconcile": 900.0, "process-webhooks": 900.0,
    "refresh-tokens": 21_600.0, "advance-implementations": 3_600.0, "digest": 86_400.0,
    "housekeeping": 86_400.0,
}  # fmt: skip


BEGINNINGS = (
    *[datetime(2026, 3, 2, 6, 0, tzinfo=UTC)] * 5,
    datetime(2026, 3, 29, 0, 20, tzinfo=UTC),  # summer time begins in Europe at one
    datetime(2026, 10, 25, 0, 20, tzinfo=UTC),  # and ends
    datetime(2026, 12, 31, 23, 10, tzinfo=UTC),
    datetime(2028, 2, 28, 23, 20, tzinfo=UTC),
)
"""When a universe may begin."""
SYNC_SECONDS = 900.0
"""From one synchronization of a connection to the next."""
ENDS_WITHIN = 100.0
"""Seconds from when a part is told to stop: a pair that is being renewed is waited for."""
SETTLE_SECONDS = 3000.0
"""How long it is calm before the last act."""


@dataclass
class Plan:
    """How one universe is to be: all drawn from the seed, so that a smaller one can be tried."""

    seed: int
    hours: float = 0.75
    connections: int = 4
    faults: bool = True
    kinds: frozenset[str] = frozenset()  # empty: those that the seed draws
    personality: dict[str, Any] = field(default_factory=dict)  # in place of what it draws
    sick: str = ""  # the sickness, where there is one
    lull: float = 0.0  # hours in the middle in which nothing new goes wrong
    pace: float = 1.0  # schedules, changes and the last calm are so much slower, for long lives


@dataclass
class Delivered:
    """A webhook of the model that was acknowledged: what we answered for."""

    post: Post
    at: datetime
    answer: str
    identity: str


@dataclass
class Verdict:
    """What the oracle says."""

    seed: int
    broken: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    """Minutes of availability that are not as it was; some few may be so."""
    trace: list[str] = field(default_factory=list)
    digest: str = ""
    acts: dict[str, bool] = field(default_factory=dict)
    """The second acts that were to be, and whether they came about."""
    figures: dict[str, float] = field(default_factory=dict)


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
        drawn = Personality.draw(Random(seed_of(plan.seed, "personality")))
        if plan.seed >= LIBERTIES_FROM:
            drawn = drawn.with_liberties(Random(seed_of(plan.seed, "liberties")))
        if plan.seed >= MORE_LIBERTIES_FROM:
            drawn = drawn.with_more_liberties(Random(seed_of(plan.seed, "more liberties")))
        if plan.seed >= LATEST_LIBERTIES_FROM:
            drawn = drawn.with_latest_liberties(Random(seed_of(plan.seed, "latest liberties")))
        self.personality = replace(drawn, **plan.personality)
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
        shape = Random(seed_of(plan.seed, "shape"))
        self.entities = tuple(sorted(shape.sample(ENTITIES, shape.choice((1, 2, 2, 3)))))
        self.pace = shape.choice((1.5, 2.0)) * plan.pace  # schedules are so much slower

    def forget(self) -> None:
        """Let go of what was in it, once it is judged: tasks that hang for good hold it."""
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
        from urllib.parse import parse_qsl

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

    # --- Makini's webhooks

    async def _send_webhooks(self) -> None:
        while True:
            await self.truth.announced.wait()
            self.truth.announced.clear()
            await asyncio.sleep(1.0)
            announced, self.truth.announce = self.truth.announce, []
            for connection, event, keys in self.postman.gathered(announced):
                post = self.postman.compose(connection, event, keys, self.truth.stamp(self.now()))
                self._dispatch(post)

    def _dispatch(self, post: Post) -> None:
        if self.people.unusual.holds(post):
            return
        chance = self.rng.random() if self.faulty("webhooks") else 1.0
        if chance < 0.06 or self._is_deaf(post):
            self.lost.append(post)
            self.say(f"webhook {post.number} {post.event} of {post.connection} lost")
            return
        delay = self.rng.uniform(0.1, 3.0)
        if chance < 0.12:
            delay += self.rng.choice((60.0, 600.0, 7200.0))
        self._later(delay, self.deliver(post))
        if 0.12 <= chance < 0.2:
            self._later(delay + self.rng.uniform(0, 30), self.deliver(post))

    def _is_deaf(self, post: Post) -> bool:
        """Whether this Makini's webhooks about records don't arrive, for the time being."""
        return "deaf" in self.people.kinds and not self.calm and bool(post.keys)

    async def _synchronize(self) -> None:
        """Makini says how each synchronization of a connection ended."""
        rng = Random(seed_of(self.plan.seed, "synchronizations"))
        while True:
            living = self.truth.living()
            await asyncio.sleep(rng.expovariate(max(1, len(living)) / (SYNC_SECONDS * self.pace)))
            if living := self.truth.living():
                connection = rng.choice(living)
                works = connection.login_ok and connection.online and connection.active
                works |= self.personality.sync_lies
                self.truth.tell((connection.key, SYNCED if works else NOT_SYNCED, []))

    def _later(self, seconds: float, work: Any) -> None:
        async def wait() -> None:
            await asyncio.sleep(seconds)
            await work

        self.spawn(wait())

    def spawn(self, work: Any) -> None:
        """Let somebody outside do `work`."""
        self._peers.append(self.loop.create_task(work, context=PEERS.copy()))

    async def deliver(self, post: Post) -> None:
        """Post it until it is answered with 200."""
        import json

        waited, pause = 0.0, RETRY_FIRST
        while waited < RETRY_FOR:
            answer = await self.request("POST", post.path, post.headers, post.body)
            status = answer.status if answer else 0
            self.say(f"webhook {post.number} {post.event} {post.connection} {post.keys} → {status}")
            if answer is not None and answer.status == 200:
                said = json.loads(answer.body)
                self.delivered.append(Delivered(post, self.now(), said["status"], said["id"]))
                return
            await asyncio.sleep(pause)
            waited, pause = waited + pause, min(pause * 2, 3600.0)

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
        with closing(machine.observe(self.home / "linekeeper.db")) as db:
            return db.execute(statement, values).fetchall()

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
                    self._later(ENDS_WITHIN, self._has_ended(host, self.now()))

    async def _has_ended(self, host: Host, told_at: datetime) -> None:
        if not (host.dead or host.stalled):
            self.found.append(f"stop: {host.name} was told to at {told_at:%H:%M:%S}, and goes on")

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

    # --- Prefect: schedules and workers

    async def _schedule(self, name: str, every: float) -> None:
        await asyncio.sleep(self.rng.uniform(1.0, min(every, 120.0)))
        while True:
            if not self.prefect.down:
                from uuid import UUID

                run = SimRun(UUID(self.clock.new_id()), name, name, True)
                self.prefect.enqueue(run)
            await asyncio.sleep(every)

    async def _work(self) -> None:
        """A worker: every run is a process of its own."""
        while True:
            await self.prefect.queued.wait()
            self.prefect.queued.clear()
            await asyncio.sleep(1.0)
            while self.prefect.queue:
                if self.workers_away:
                    await asyncio.sleep(5.0)
                    continue
                run = self.prefect.queue.pop(0)
                self.prefect.taken(run)
                if not self.people.lost_runs.never_begins(run):
                    self.take(run)

    def take(self, run: SimRun) -> None:
        """A worker runs it, in a process of its own."""

        async def main(_: Host) -> None:
            await self.prefect.run_flow(run)

        host, task = self.start(f"worker {run.deployment}", main)
        run.hosts.append(host)
        self.people.lost_runs.taken(run, host)
        task.add_done_callback(lambda _: self._ended(run, host), context=PEERS)
        self.people.twice.taken(run, host)

    def _ended(self, run: SimRun, host: Host) -> None:
        host.end()
        self.say(f"run {run.deployment}: {run.state_word} {run.state_name} {run.message}")

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
            self._send_webhooks(), self._live(), self._trouble(), self._work(), *trouble.start(),
            *(self._schedule(name, every * self.pace) for name, every in SCHEDULES.items()),
        ]  # fmt: skip
        if "second" in trouble.kinds:
            peers.append(self._supervise("second consumer", self._consume))
        if self.personality.sync_events:
            peers.append(self._synchronize())
        if self.personality.magic_links:
            peers.append(invitations(self))
        if self.personality.new_events:
            peers.append(new_events(self))
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
