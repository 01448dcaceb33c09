"""What Prometheus sees of everything but the receiver itself: read from the database."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily as Gauge
from sqlalchemy import bindparam, literal_column
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, func, select

from linekeeper import __version__
from linekeeper.config import Configuration
from linekeeper.makini.bucket_row import read_bucket
from linekeeper.makini.budget import grant
from linekeeper.outbox.backlog import Backlog, read_backlog
from linekeeper.spending import read_spent
from linekeeper.store import Store
from linekeeper.store.leases import IS_CONSUMERS
from linekeeper.store.schema import head
from linekeeper.store.tables import (
    AppState,
    Connection,
    Incident,
    Lease,
    ReceiverHeartbeat,
    Reconnect,
)
from linekeeper.store.types import UtcDateTime
from linekeeper.sweep.stream_queries import read_streams
from linekeeper.views.managed import count_managed

ALIVE = timedelta(seconds=30)
"""A receiver that could store within it is alive; it says so every ten seconds."""


async def read_gauges(store: Store, configuration: Configuration, *, now: datetime) -> list[Gauge]:
    """All figures at `now`."""
    async with store.read() as session:
        return [
            Gauge("linekeeper_up", "The database answers.", 1),
            _labelled(
                "linekeeper_build_info",
                "Version and schema.",
                ("version", "schema"),
                [(__version__, head(), 1)],
            ),
            *await _connections(session, now),
            *await _incidents(session),
            *await _webhooks(session, configuration, now),
            *await _outbox(session, now),
            *await _apps(session, configuration, now),
            *await _modes(session, configuration),
            *await _house(session, now),
        ]


def exposition(gauges: Iterable[Gauge]) -> bytes:
    """Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(gauges))
    return generate_latest(registry)


def down() -> bytes:
    """What there is to say while the database does not answer."""
    return exposition([Gauge("linekeeper_up", "The database answers.", 0)])


class _Collector:
    def __init__(self, gauges: Iterable[Gauge]) -> None:
        self._gauges = list(gauges)

    def collect(self) -> Iterable[Gauge]:
        return self._gauges


async def _connections(session: AsyncSession, now: datetime) -> list[Gauge]:
    health = await session.execute(
        select(Connection.app, Connection.health, func.count())
        .where(col(Connection.setup) != "disconnected")
        .group_by(Connection.app, Connection.health)
    )
    evidence = await session.execute(
        select(
            Connection.app,
            func.coalesce(Connection.evidence, literal_column("'listed'")),
            func.count(),
        )
        .where(col(Connection.setup) != "disconnected", col(Connection.health) == "healthy")
        .group_by(Connection.app, func.coalesce(Connection.evidence, literal_column("'listed'")))
    )
    setup = await session.execute(
        select(Connection.app, Connection.setup, func.count()).group_by(
            Connection.app, Connection.setup
        )
    )
    checked = await session.execute(
        select(
            Connection.app,
            func.min(col(Connection.last_checked_at)),
            func.max(col(Connection.last_checked_at)),
        )
        .where(col(Connection.setup) == "live")
        .group_by(Connection.app)
    )
    oldest = _by_app(
        "linekeeper_check_oldest_age_seconds",
        "Seconds since the check of the live connection that was checked longest ago.",
    )
    newest = _by_app("linekeeper_check_age_seconds", "Seconds since any connection was checked.")
    for app, first, last in checked:
        for gauge, at in ((oldest, first), (newest, last)):
            if at is not None:
                gauge.add_metric([app], _age(at, now))
    return [
        _labelled(
            "linekeeper_connections",
            "Connections by health.",
            ("app", "health"),
            health,
        ),
        _labelled(
            "linekeeper_connections_evidence",
            "Healthy connections by the evidence of it: listed, probed or read.",
            ("app", "evidence"),
            evidence,
        ),
        _labelled(
            "linekeeper_connections_setup",
            "Connections by setup.",
            ("app", "setup"),
            setup,
        ),
        oldest,
        newest,
    ]


async def _incidents(session: AsyncSession) -> list[Gauge]:
    rows = await session.execute(
        select(Incident.kind, Incident.status, func.count())
        .where(col(Incident.resolved_at).is_(None))
        .group_by(Incident.kind, Incident.status)
    )
    waiting = await session.scalar(
        select(func.count()).select_from(Reconnect).where(col(Reconnect.closed_at).is_(None))
    )
    return [
        _labelled(
            "linekeeper_incidents_open",
            "Open incidents.",
            ("kind", "status"),
            rows,
        ),
        Gauge(
            "linekeeper_reconnects_open",
            "Lost logins whose customer has not logged in yet.",
            waiting or 0,
        ),
    ]


async def _webhooks(
    session: AsyncSession, configuration: Configuration, now: datetime
) -> list[Gauge]:
    streams = await read_streams(session, configuration.apps, now=now)
    return [
        _labelled(f"linekeeper_{name}", text, ["app"], [(each.app, of(each)) for each in streams])
        for name, text, of in (
            ("events_pending", "Webhooks to be applied.", attrgetter("pending")),
            (
                "events_oldest_seconds",
                "Age of the oldest pending webhook, in seconds.",
                lambda each: _age(each.oldest_at, now) if each.oldest_at else 0,
            ),
            ("events_dead", "Webhooks given up.", attrgetter("dead")),
            (
                "events_lag_seconds",
                "Seconds from received to applied, p95.",
                attrgetter("lag_seconds"),
            ),
            ("deliveries_forged", "Bad signatures in ten minutes.", attrgetter("forged")),
            (
                "events_failing",
                "Webhooks that failed at least once and are tried again.",
                attrgetter("failing"),
            ),
            (
                "events_unrouted",
                "Webhooks older than half an hour that belong to no known connection.",
                attrgetter("unrouted"),
            ),
            ("events_last_hour", "Webhooks received in an hour.", attrgetter("last_hour")),
        )
    ]


async def _outbox(session: AsyncSession, now: datetime) -> list[Gauge]:
    backlogs = await read_backlog(session, now=now)
    oldest = {name: each.oldest_at for name, each in backlogs.items() if each.oldest_at}

    def counted(name: str, text: str, of: Callable[[Backlog], int]) -> Gauge:
        rows = [(channel, of(each)) for channel, each in backlogs.items() if of(each)]
        return _labelled(f"linekeeper_outbox_{name}", text, ["channel"], rows)

    return [
        counted("pending", "Messages to be delivered.", attrgetter("pending")),
        _labelled(
            "linekeeper_outbox_oldest_seconds",
            "Seconds for which the oldest message was due.",
            ["channel"],
            [(channel, _age(at, now)) for channel, at in oldest.items()],
        ),
        counted("planned", "Messages written for later.", attrgetter("planned")),
        counted("dead", "Messages given up.", attrgetter("dead")),
    ]


async def _apps(session: AsyncSession, configuration: Configuration, now: datetime) -> list[Gauge]:
    limit = _by_app("linekeeper_budget_per_minute", "Calls allowed a minute; 0: no limit.")
    left = _by_app("linekeeper_budget_tokens", "Calls that could be made at once.")
    held = _by_app(
        "linekeeper_budget_blocked_seconds", "Seconds that Makini asked Linekeeper to wait."
    )
    listed = _by_app("linekeeper_list_age_seconds", "Seconds since Makini's list was read.")
    spent = Gauge(
        "linekeeper_makini_calls_hour",
        "Calls since the full hour, by purpose.",
        labels=("app", "purpose"),
    )
    refused = Gauge(
        "linekeeper_makini_refused_day", "Calls answered 429 in a day.", labels=("app", "purpose")
    )
    for name, parts in (await read_spent(session, now=now)).items():
        for part in parts:
            spent.add_metric([name, part.purpose], part.this_hour)
            refused.add_metric([name, part.purpose], part.refused)
    for state in await session.scalars(select(AppState)):
        app = configuration.apps.get(state.app)
        if app is None:
            continue
        limit.add_metric([state.app], app.calls_a_minute)
        bucket = read_bucket(state.budget)
        if bucket is not None and app.per_minute:
            left.add_metric(
                [state.app], grant(bucket, app.calls_a_minute, app.calls_a_minute, now)[1]
            )
            blocked = bucket.blocked_until
            held.add_metric(
                [state.app], max(0.0, (blocked - now).total_seconds()) if blocked else 0
            )
        if state.last_list_at is not None:
            listed.add_metric([state.app], _age(state.last_list_at, now))
    return [limit, left, held, listed, spent, refused]


async def _modes(session: AsyncSession, configuration: Configuration) -> list[Gauge]:
    counted = (await count_managed(session, configuration.apps)).items()
    return [
        _labelled(
            "linekeeper_connections_mode",
            "Connections by the mode that holds for them.",
            ("app", "mode"),
            [
                (app, mode, number)
                for app, count in counted
                for mode, number in (("manage", count.managed), ("observe", count.observed))
            ],
        ),
        _labelled(
            "linekeeper_connections_written_to",
            "Connections whose customers are notified.",
            ("app",),
            [(app, count.written_to) for app, count in counted],
        ),
    ]


_HELD = (
    select(IS_CONSUMERS, func.coalesce(col(Lease.kind), col(Lease.name)), func.count())
    .where(col(Lease.until) > bindparam("now", type_=UtcDateTime))
    .group_by(IS_CONSUMERS, func.coalesce(col(Lease.kind), col(Lease.name)))
)


async def _house(session: AsyncSession, now: datetime) -> list[Gauge]:
    receivers = await session.scalar(
        select(func.count(col(ReceiverHeartbeat.receiver).distinct())).where(
            col(ReceiverHeartbeat.at) >= now - ALIVE
        )
    )
    held = (await session.execute(_HELD, {"now": now})).all()
    consumers = sum(number for is_consumers, _, number in held if is_consumers)
    return [
        Gauge("linekeeper_consumers", "Consumers that are alive.", consumers),
        Gauge("linekeeper_receivers", "Receivers that could store lately.", receivers or 0),
        _labelled(
            "linekeeper_lease_held",
            "Leases that are held, by what they are for.",
            ("name",),
            [row for is_consumers, *row in held if not is_consumers],
        ),
    ]


def _age(at: datetime, now: datetime) -> float:
    return max(0.0, (now - at).total_seconds())


def _by_app(name: str, text: str) -> Gauge:
    return Gauge(name, text, labels=["app"])


def _labelled(name: str, text: str, labels: Sequence[str], rows: Iterable[Iterable[Any]]) -> Gauge:
    """`rows` have a value for each label, and the figure."""
    gauge = Gauge(name, text, labels=labels)
    for *values, figure in rows:
        gauge.add_metric(values, figure)
    return gauge
