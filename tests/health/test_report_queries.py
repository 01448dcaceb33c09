"""What the artifacts of the fleet and of one connection show, read from the database."""

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlmodel import SQLModel, col

from linekeeper.config import AppConfig, Configuration
from linekeeper.health.evidence import Health
from linekeeper.health.judge import is_trouble
from linekeeper.notify.view import FROM_A_PAGE, Links
from linekeeper.store import Store, new_id
from linekeeper.store.tables import (
    AppState,
    Connection,
    Credential,
    Customer,
    Incident,
    IncidentConnection,
    Observation,
    Transition,
)
from linekeeper.views.connection_page import connection_markdown
from linekeeper.views.fleet_models import OBSERVATIONS_SHOWN, TRANSITIONS_SHOWN, AppLine
from linekeeper.views.fleet_page import fleet_markdown
from linekeeper.views.fleet_queries import (
    TOKENLESS_SHOWN,
    TROUBLES_SHOWN,
    connection_reports,
    fleet_report,
    in_trouble,
)
from linekeeper.views.managed import Managed
from linekeeper.views.parts import artifact_key
from tests.reading import svgs

NOW = datetime(2026, 11, 24, 20, 15, tzinfo=UTC)
HOUR = timedelta(hours=1)
LINKS = Links(FROM_A_PAGE, {"check-connection": "0193-check"})
CONFIGURATION = Configuration(apps={"default": AppConfig(mode="manage")})


def a_connection(n: int, **values: Any) -> Connection:
    return Connection(
        **{
            "app": "default",
            "makini_key": f"k{n}",
            "name": f"Acme - UpKeep {n}",
            "slug": f"acme-upkeep-k{n}",
            "provider": "UpKeep",
            "setup": "live",
            "health": Health.healthy,
            "created_at": NOW - timedelta(days=30),
            "health_since": NOW - HOUR,
            **values,
        }
    )


async def write(store: Store, *rows: SQLModel) -> None:
    async with store.write() as session:
        for row in rows:
            session.add(row)
            await session.flush()


async def test_trouble_is_the_same_in_sql_as_for_the_judge(store: Store) -> None:
    setups = ["pending", "authorizing", "syncing", "live", "disconnected"]
    every = [
        a_connection(n, setup=setup, health=health, last_answered_at=at)
        for n, (setup, health, at) in enumerate(itertools.product(setups, Health, [None, NOW]))
    ]
    await write(store, *every)
    async with store.read() as session:
        found = set(await session.scalars(select(col(Connection.id)).where(in_trouble())))
    assert found == {
        connection.id
        for connection in every
        if is_trouble(
            connection.setup, connection.health, answered=connection.last_answered_at is not None
        )
    }
    report = await fleet_report(store, CONFIGURATION, now=NOW)
    assert report.troubles_total == len(found) == len(report.troubles)
    assert report.by_setup["disconnected"] == 2 * len(Health)
    assert report.connections == len(every) - 2 * len(Health)


async def test_a_fleet_report_says_who_is_in_trouble_and_why(store: Store) -> None:
    acme = Customer(name="Acme", slug="acme", critical=False)
    vital = Customer(name="Vital", slug="vital", critical=True)
    newest = a_connection(
        1, customer_id=acme.id, health=Health.unreachable, health_since=NOW - HOUR
    )
    oldest = a_connection(
        2, customer_id=vital.id, health=Health.reauthorization_required, health_since=NOW - 9 * HOUR
    )
    orphan = a_connection(
        3, health=Health.degraded, health_since=NOW - 2 * HOUR, app="second", provider="", name="X"
    )
    fine = a_connection(4, customer_id=acme.id)
    incident = Incident(
        kind="unreachable", scope="connection", cause="c:1", app="default", title="UpKeep is down",
        opened_at=NOW - HOUR, acknowledged_at=NOW, acknowledged_by="Ana",
    )  # fmt: skip
    over = Incident(
        kind="unreachable", scope="connection", cause="c:2", app="default", title="old",
        status="resolved", resolved_at=NOW - HOUR,
    )  # fmt: skip
    await write(
        store,
        acme,
        vital,
        newest,
        oldest,
        orphan,
        fine,
        incident,
        over,
        IncidentConnection(
            incident_id=incident.id, connection_id=newest.id, kind="unreachable"
        ),
        IncidentConnection(
            incident_id=over.id, connection_id=oldest.id, kind="unreachable", left_at=NOW - HOUR
        ),
        Observation(
            connection_id=newest.id, at=NOW - HOUR, source="probe", outcome="missed",
            code="503", message="first", request_id="r1",
        ),
        Observation(
            connection_id=newest.id, at=NOW, source="probe", outcome="missed",
            code="504", message="gateway", request_id="r2",
        ),
        Observation(connection_id=newest.id, at=NOW, source="list", outcome="listed"),
        Observation(
            connection_id=newest.id, at=NOW + HOUR, source="webhook", outcome="answered",
            message="webhook sync.completed: the next call decides",
        ),
        Credential(connection_id=fine.id, access_token="x"),
        AppState(app="default", last_list_at=NOW, left_out=7),
    )  # fmt: skip
    report = await fleet_report(store, CONFIGURATION, now=NOW)
    assert [trouble_line.label for trouble_line in report.troubles] == [
        "Vital · UpKeep",
        "Acme · UpKeep",
        "X",
    ]
    vitals, acmes, last = report.troubles
    assert vitals.critical
    assert (vitals.incident, last.incident, last.answer) == (None, None, None)
    assert acmes.answer is not None
    assert (acmes.answer.code, acmes.answer.request_id) == ("504", "r2")
    assert acmes.incident is not None
    assert acmes.incident.acknowledged_by == "Ana"
    assert report.by_health == {
        "healthy": 1, "unreachable": 1, "reauthorization_required": 1, "degraded": 1
    }  # fmt: skip
    assert report.tokenless_total == 3
    assert set(report.tokenless) == {"Vital · UpKeep", "Acme · UpKeep", "X"}
    assert report.apps == [
        AppLine(
            *("default", "manage", 3, 1, NOW, Managed(3, 3)),
            listed=1,
            left_out=7,
            calls_per_minute=600,
        ),
        AppLine("second", None, 1, 0, None, Managed(1)),
    ]
    markdown = fleet_markdown(report, LINKS)
    assert f"[Acme · UpKeep](../../artifacts/key/{artifact_key(newest.slug)})" in markdown
    assert "`504` · gateway · request `r2`" in markdown
    assert "acknowledged by Ana" in markdown
    assert LINKS.form("check-connection", {"connection": newest.id}) in markdown
    assert len(svgs(markdown)) == 1


async def test_the_history_is_what_the_transitions_say(store: Store) -> None:
    connection, two, gone = a_connection(1), a_connection(2), a_connection(3, setup="disconnected")

    def change(of: Connection, ago: timedelta, before: str, after: str, axis: str = "health"):
        return Transition(
            connection_id=of.id, at=NOW - ago, axis=axis, before=before, after=after, source="probe"
        )

    await write(
        store,
        connection,
        two,
        gone,
        change(connection, 5 * HOUR, "healthy", "unreachable"),
        change(connection, 4 * HOUR, "unreachable", "healthy"),
        change(two, 30 * HOUR, "unknown", "healthy"),
        change(two, 2 * HOUR, "syncing", "live", "setup"),
        change(gone, HOUR, "healthy", "unreachable"),
    )
    history = (await fleet_report(store, CONFIGURATION, now=NOW)).history
    assert len(history) == 96
    assert {sum(bucket.counts.values()) for bucket in history} == {2}
    assert [NOW - bucket.start for bucket in history if bucket.troubles] == [
        5 * HOUR - n * timedelta(minutes=15) for n in range(4)
    ]


async def test_a_fleet_adopted_minutes_ago_is_shown_minute_by_minute(store: Store) -> None:
    born = NOW - timedelta(minutes=10)
    connection = a_connection(1, created_at=born)
    await write(
        store,
        connection,
        Transition(
            connection_id=connection.id, at=born, axis="health", before="unknown", after="healthy",
            source="list",
        ),
    )  # fmt: skip
    history = (await fleet_report(store, CONFIGURATION, now=NOW)).history
    assert history[1].start - history[0].start == timedelta(minutes=1)
    assert [sum(bucket.counts.values()) for bucket in history] == [0] * 85 + [1] * 11
    assert not any(bucket.troubles for bucket in history)


async def test_an_empty_database_has_a_report(store: Store) -> None:
    report = await fleet_report(store, Configuration(), now=NOW)
    assert report.connections == 0
    assert "No connection is known yet" in fleet_markdown(report, LINKS)
    assert await connection_reports(store, CONFIGURATION, [], now=NOW) == []


async def test_long_lists_are_cut_and_counted(store: Store) -> None:
    many = [
        a_connection(n, slug=f"s{n:04}", health=Health.unreachable)
        for n in range(TROUBLES_SHOWN + 25)
    ]
    await write(store, *many)
    report = await fleet_report(store, CONFIGURATION, now=NOW)
    assert len(report.troubles) == TROUBLES_SHOWN
    assert report.troubles_total == len(many)
    assert len(report.tokenless) == TOKENLESS_SHOWN
    markdown = fleet_markdown(report, LINKS)
    assert "… and 25 more" in markdown
    assert f"and {len(many) - TOKENLESS_SHOWN} more." in markdown


async def test_a_connection_report_tells_its_story_newest_first(store: Store) -> None:
    acme = Customer(name="Acme", slug="acme", owner="Ana")
    connection = a_connection(1, customer_id=acme.id, health=Health.reauthorization_required)
    other = a_connection(2)
    incident = Incident(
        kind="reauthorization_required", scope="connection", cause="c:1", app="default",
        title="Acme · UpKeep has to sign in", opened_at=NOW - HOUR,
    )  # fmt: skip
    minutes = [NOW - timedelta(minutes=n) for n in range(TRANSITIONS_SHOWN + 5)]
    await write(
        store,
        acme,
        connection,
        other,
        incident,
        IncidentConnection(
            incident_id=incident.id, connection_id=connection.id, kind="reauthorization_required"
        ),
        *(
            Transition(
                connection_id=connection.id, at=at, axis="health", before="healthy",
                after="reauthorization_required", source="probe", evidence={"request_id": f"t{n}"},
            )
            for n, at in enumerate(minutes)
        ),
        *(
            Observation(
                connection_id=connection.id, at=at, source="probe", outcome="login_lost",
                code="401", message="fail", request_id=f"o{n}", latency=0.25,
            )
            for n, at in enumerate(minutes)
        ),
    )  # fmt: skip
    reports = await connection_reports(
        store, CONFIGURATION, [other.id, new_id(), connection.id], now=NOW
    )
    assert [report.connection.id for report in reports] == [other.id, connection.id]
    report = reports[1]
    assert report.label == "Acme · UpKeep"
    assert [seen.request_id for seen in report.observations] == [
        f"o{n}" for n in range(OBSERVATIONS_SHOWN + 1)
    ]
    assert len(report.transitions) == TRANSITIONS_SHOWN + 1  # which says that there are more
    assert report.transitions[0].at == NOW
    assert [one.title for one in report.incidents] == ["Acme · UpKeep has to sign in"]
    markdown = connection_markdown(report, LINKS)
    assert markdown.startswith("# 🔑 Acme · UpKeep: Reauthorization required\n")
    assert "the customer has to log in again" in markdown
    assert "Linekeeper has no token for it" in markdown
    assert "`o0`" in markdown
    assert "request `t0`" in markdown
    assert "None." in connection_markdown(reports[0], LINKS)
