"""`linekeeper explain` among a million records and events: is the right hop named, how soon?

200 causes, eight of each kind, are planted as the running parts write them (tests/explain plants
the same through the parts), each on a connection of its own, and each is asked for by key, readable
number, delivery id or incident. Both databases; `BENCH_ROWS` makes it smaller.
"""

import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from sqlalchemy import update
from sqlmodel import SQLModel, col

from benchmarks.crowd import CONFIGURATION, ENTITY, Crowd, delivery, fill, forward, id_at, write
from benchmarks.peers import create_database, postgres
from linekeeper.clock import utcnow
from linekeeper.explain.service import explain
from linekeeper.settings import Settings
from linekeeper.store import Store, new_id
from linekeeper.store.migrate import migrate
from linekeeper.store.tables import (
    Change,
    Connection,
    Deletion,
    DeliveryCount,
    ForwardAttempt,
    Incident,
    IncidentConnection,
    Notice,
    Outage,
    Outbox,
    Record,
    Silence,
    Transition,
    Watermark,
    WebhookEvent,
)

ROWS = int(os.environ.get("BENCH_ROWS", "1000000"))
EACH = 8
KEY = "LvnFJyaRMLl_GlESbT2b5VtjIKCEjxYyKIaHRGFmYyk="
GOALS = {
    "sqlite_p95_ms": 50.0,
    "postgresql_p95_ms": 50.0,
    "sqlite_right": 1.0,
    "postgresql_right": 1.0,
}


@dataclass(slots=True)
class Plant:
    """One cause: its rows, and what the connection and its watermark are set to."""

    connection: dict[str, Any]
    key: str
    at: datetime
    """When the source changed; each plant of a kind has an hour of its own."""
    rows: list[tuple[type[SQLModel], dict[str, Any]]] = field(default_factory=list)
    of_connection: dict[str, Any] = field(default_factory=dict)
    of_watermark: dict[str, Any] = field(default_factory=dict)
    subject: str | None = None
    """What is asked for; by itself the record."""

    @property
    def own(self) -> str:
        """The connection's id."""
        return str(self.connection["id"])

    def add(self, model: type[SQLModel], **values: Any) -> None:
        """One row."""
        self.rows.append((model, values))

    def indexed(self, **values: Any) -> None:
        """The record is in the index."""
        known = {"entity": ENTITY, "key": self.key, "hash": "h", "updated_at": self.at}
        self.add(Record, connection_id=self.own, number=f"NO {self.key}", **known | values)

    def changed(self, **values: Any) -> None:
        """A poll recovered the change half an hour later."""
        at = self.at + timedelta(minutes=30)
        known = {"seq": 9_000_000, "op": "updated", "updated_at": self.at, "at": at}
        known |= {"source": "poll", "recovered": True, "entity": ENTITY, "key": self.key}
        self.add(Change, connection_id=self.own, **known | values)

    def delivered(self, **values: Any) -> str:
        """A delivery named the record a minute after the change; its id."""
        at = self.at + timedelta(minutes=1)
        event = {"id": id_at(at), "delivery_key": f"planted-{new_id()}"}
        self.add(WebhookEvent, **delivery(self.own, [self.key], at) | event | values)
        return event["id"]

    def forwarded(self, status: str, answer: int | None, **values: Any) -> None:
        """A delivery that was applied and handed on, with one answer of the product if any."""
        event, at = self.delivered(), self.at + timedelta(minutes=2)
        self.indexed()
        brought = {"source": "webhook", "recovered": False, "at": at}
        self.changed(announced_at=self.at + timedelta(minutes=1), **brought)
        self.add(Outbox, **forward(event, self.own, status, at))
        if answer is not None or values:
            self.add(ForwardAttempt, message_id=event, at=at, status=answer, **values)

    def incident(self, **values: Any) -> str:
        """An incident of the connection, which is asked for; its id."""
        identifier, now = new_id(), utcnow()
        known: dict[str, Any] = {"kind": "unreachable", "cause": f"planted:{identifier}"}
        known |= {"scope": "connection", "app": "default", "title": "Planted", "opened_at": now}
        self.add(Incident, id=identifier, **known | values)
        self.add(
            IncidentConnection, incident_id=identifier, connection_id=self.own, kind="unreachable"
        )
        self.subject = identifier
        return identifier


def _lost(plant: Plant) -> None:
    plant.indexed()
    plant.changed()


def _lost_by_number(plant: Plant) -> None:
    _lost(plant)
    plant.subject = f"{plant.connection['name']} NO {plant.key}".replace(" Maximo", " · Maximo")


def _forged(plant: Plant) -> None:
    _lost(plant)
    minute = plant.at.replace(second=0, microsecond=0)
    plant.add(DeliveryCount, app="default", cause="bad_signature", minute=minute, count=3)


def _outage(plant: Plant) -> None:
    _lost(plant)
    five = timedelta(minutes=5)
    plant.add(Outage, since=plant.at - five, until=plant.at + five, found_at=plant.at)


def _late(plant: Plant) -> None:
    plant.indexed()
    plant.changed(announced_at=plant.at + timedelta(minutes=50))


def _never_set_up(plant: Plant) -> None:
    _lost(plant)
    plant.of_connection = {"last_webhook_at": None}


def _unrouted(plant: Plant) -> None:
    plant.delivered(status="unrouted", connection_id=None)


def _dead(plant: Plant) -> None:
    plant.delivered(status="dead", error="not JSON", attempts=8)


def _dead_by_delivery(plant: Plant) -> None:
    plant.subject = plant.delivered(status="dead", error="not JSON", attempts=8)


def _deferred(plant: Plant, health: str) -> None:
    plant.delivered(status="deferred")
    plant.add(
        Transition,
        connection_id=plant.own,
        at=plant.at,
        axis="health",
        before="healthy",
        after=health,
        source="probe",
    )


def _outside(plant: Plant) -> None:
    plant.delivered(entity="erp/materials")


def _absent(plant: Plant) -> None:
    plant.delivered()


def _deleted(plant: Plant) -> None:
    plant.indexed(deleted_at=plant.at)
    plant.changed(op="deleted", source="deletion", recovered=False)


def _deletion_held(plant: Plant) -> None:
    deletion = new_id()
    known = {"connection_id": plant.own, "entity": ENTITY, "records": 9, "live": 10}
    plant.add(Deletion, id=deletion, status="proposed", **known)
    plant.indexed(absent_since=plant.at, deletion_id=deletion)


def _outside_window(plant: Plant) -> None:
    plant.of_watermark = {"window_since": plant.at}


def _entity_failing(plant: Plant) -> None:
    plant.of_watermark = {"failures": 3, "failing_since": plant.at, "error": "403"}


def _login_lost(plant: Plant) -> None:
    plant.of_connection = {"health": "reauthorization_required"}


def _never_seen(_plant: Plant) -> None:
    """Nothing is known of it."""


def _feed_unread(plant: Plant) -> None:
    plant.of_connection = {"app": "feed"}
    plant.indexed()
    plant.changed(op="rekeyed", recovered=False)


def _waiting(plant: Plant) -> None:
    plant.delivered(status="pending", connection_id=None, processed_at=None, attempts=0)


def _quiet(plant: Plant) -> None:
    plant.incident()


def _muted(plant: Plant) -> None:
    plant.incident(muted_at=utcnow(), muted_until=utcnow() + timedelta(days=1))


def _silenced(plant: Plant) -> None:
    plant.incident()
    window = {"starts_at": plant.at, "ends_at": utcnow() + timedelta(days=1)}
    of = {"scope": "connection", "subject": plant.own, "label": "Planted", "by": "benchmark"}
    plant.add(Silence, **of | window)


def _notified(plant: Plant) -> None:
    plant.add(Notice, incident_id=plant.incident(), channel="slack", step="first", why="new")


_MAKERS: dict[Callable[[Plant], None], tuple[str, str | None]] = {
    _lost: ("webhook_lost", "webhook"),
    _lost_by_number: ("webhook_lost", "webhook"),
    _forged: ("rejected", "accepted"),
    _outage: ("our_outage", "webhook"),
    _late: ("webhook_late", "webhook"),
    _never_set_up: ("webhooks_never", "webhook"),
    _unrouted: ("unrouted", "read"),
    _dead: ("dead", "read"),
    _dead_by_delivery: ("dead", "read"),
    lambda plant: _deferred(plant, "reauthorization_required"): ("deferred_login", "read"),
    lambda plant: _deferred(plant, "unreachable"): ("deferred_unreachable", "read"),
    _outside: ("outside_entities", "read"),
    _absent: ("absent_at_source", "read"),
    lambda plant: plant.forwarded("sent", 200): ("product_accepted", None),
    lambda plant: plant.forwarded("pending", 422): ("product_refused", "forward"),
    lambda plant: plant.forwarded("pending", None, error="timeout"): (
        "product_unreachable",
        "forward",
    ),
    _deleted: ("deleted", None),
    _deletion_held: ("deletion_held", "poll"),
    _outside_window: ("outside_window", "poll"),
    _login_lost: ("login_lost", "poll"),
    _feed_unread: ("feed_unread", "feed"),
    _waiting: ("waiting", "claimed"),
    _quiet: ("quiet_hours", "policy"),
    _muted: ("muted", "policy"),
    _silenced: ("silenced", "policy"),
    _notified: ("notified", None),
    _entity_failing: ("entity_failing", "poll"),
    _never_seen: ("never_seen", "source"),
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked, and what has to come out."""

    subject: str
    cause: str
    missing: str | None


async def plant_all(store: Store, crowd: Crowd, *, count: int) -> list[Asked]:
    """Plant `count` causes, the kinds in turn; what to ask of each."""
    asked, kinds = [], list(_MAKERS.items())
    for n in range(count):
        make, (cause, missing) = kinds[n % len(kinds)]
        hours = timedelta(hours=3 * n + 30)
        plant = Plant(crowd.connections[3 * n % len(crowd.connections)], f"planted/{n}", crowd.now)
        plant.at -= hours
        make(plant)
        for model, row in plant.rows:
            await write(store, model, [row])
        async with store.write() as session:
            own = col(Connection.id) == plant.own
            if plant.of_connection:
                await session.execute(update(Connection).where(own).values(**plant.of_connection))
            mark = col(Watermark.connection_id) == plant.own
            if plant.of_watermark:
                await session.execute(update(Watermark).where(mark).values(**plant.of_watermark))
        subject = plant.subject or f"{plant.connection['name']} {plant.key}"
        asked.append(Asked(subject, cause, missing))
    return asked


@dataclass(frozen=True, slots=True)
class Found:
    """How long each answer took, and those that were wrong."""

    milliseconds: list[float]
    cpu: list[float]
    """Milliseconds of this process, which on a busy machine say more."""
    wrong: list[str]

    def p95(self) -> float:
        """What 95 of 100 answers took at most."""
        return _p95(self.milliseconds)


def _p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


async def ask_all(store: Store, asked: list[Asked]) -> Found:
    """Ask each; the first of all is asked twice, for nothing is warm before it."""
    await explain(store, CONFIGURATION, asked[0].subject, now=utcnow())
    times, cpu, wrong = [], [], []
    for planted in asked:
        began, worked = time.perf_counter(), time.process_time()
        explanation = await explain(store, CONFIGURATION, planted.subject, now=utcnow())
        times.append((time.perf_counter() - began) * 1000)
        cpu.append((time.process_time() - worked) * 1000)
        verdict = explanation.verdict
        got = verdict.cause.value, verdict.missing and verdict.missing.value
        if got != (planted.cause, planted.missing):
            wrong.append(f"{planted.subject}: {got}, not {planted.cause}, {planted.missing}")
    return Found(times, cpu, wrong)


async def measure(store: Store, *, rows: int, count: int) -> Found:
    """Fill, plant, ask."""
    crowd = await fill(store, rows=rows, now=utcnow())
    return await ask_all(store, await plant_all(store, crowd, count=count))


async def _on(home: Path, url: str) -> Found:
    settings = Settings(
        home=home,
        encryption_keys=(SecretStr(KEY),),
        database_url=SecretStr(url) if url else None,
    )
    async with Store.open(settings) as store:
        await migrate(store)
        return await measure(store, rows=ROWS, count=EACH * 25)


def run() -> dict[str, Any]:
    """The figures, with the goals beside them."""
    figures: dict[str, Any] = {"rows": ROWS, "planted": EACH * 25}
    with tempfile.TemporaryDirectory(prefix="linekeeper-explain-") as name:
        folder = Path(name)
        with postgres(folder) as server:
            for engine in ("sqlite", "postgresql"):
                url = "" if engine == "sqlite" else asyncio.run(create_database(server, "explain"))
                timings = asyncio.run(_on(folder / engine, url))
                figures |= {
                    f"{engine}_p95_ms": timings.p95(),
                    f"{engine}_cpu_p95_ms": _p95(timings.cpu),
                    f"{engine}_median_ms": statistics.median(timings.milliseconds),
                    f"{engine}_right": 1 - len(timings.wrong) / len(timings.milliseconds),
                    f"{engine}_wrong": timings.wrong[:10],
                }
    return figures | {"goals": GOALS}


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
