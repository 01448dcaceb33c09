import base64
import itertools
import json
import re
import unicodedata
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from sqlalchemy import select
from sqlmodel import SQLModel, col

from linekeeper.config import AppConfig, Configuration
from linekeeper.health.judge import Health, is_trouble
from linekeeper.health.report import (
    ReportLinks,
    artifact_key,
    connection_markdown,
    fleet_markdown,
)
from linekeeper.health.report_queries import (
    OBSERVATIONS_SHOWN,
    TOKENLESS_SHOWN,
    TRANSITIONS_SHOWN,
    TROUBLES_SHOWN,
    AppLine,
    ConnectionReport,
    FleetReport,
    OpenIncident,
    TroubleLine,
    connection_reports,
    fleet_report,
    in_trouble,
)
from linekeeper.markdown import ago, code, text, when
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

NOW = datetime(2026, 11, 24, 20, 15, tzinfo=UTC)
HOUR = timedelta(hours=1)
LINKS = ReportLinks(check_deployment_id="0193-check")
CONFIGURATION = Configuration(apps={"default": AppConfig(mode="manage")})
MARKDOWN = MarkdownIt("commonmark", {"linkify": False}).enable(["table", "strikethrough"])
MARKDOWN.validateLink = lambda _: True  # by default it refuses SVG as an image

nasty = st.one_of(
    st.text(max_size=600),
    st.text(alphabet="|\\`*_[]()<>&~#!\n\r\t :/@w.-$^{}\u202e\u200b\u2028\x00a", max_size=60),
    st.sampled_from(
        [
            "](https://evil.example)",
            "![x](https://evil.example/p.png)",
            "<img src=x onerror=alert(1)>",
            "&lt;script&gt;",
            "| a | b |\n|---|---|",
            "trailing \\",
            "https://evil.example/login and www.evil.example, a@evil.example",
            "\u202etxet desrever",
            "```\ncode",
            "&#124;",
            "<!-- ",
            "N" * 500,
        ]
    ),
)


def plain(value: str) -> str:
    """What a reader should see of `value`, said independently of the code under test."""
    kept = "".join(c for c in value if unicodedata.category(c) != "Cf")
    return " ".join("".join(c if c.isprintable() else " " for c in kept).split())


def cells(markdown: str) -> list[list[str]]:
    """The rows of the only table in `markdown` as another parser renders them."""
    tokens = MARKDOWN.parse(markdown)
    rows: list[list[str]] = []
    for token, inside in itertools.pairwise(tokens):
        if token.type == "tr_open":
            rows.append([])
        if token.type in ("td_open", "th_open"):
            rows[-1].append("".join(child.content for child in inside.children or []))
            assert {child.type for child in inside.children or []} <= {"text", "text_special"}
    return rows


@given(st.lists(nasty, min_size=1, max_size=4))
@example(["a\\", "b|c", "\\|", "\\\\"])
def test_text_from_outside_shows_itself_and_never_breaks_a_table(values: list[str]) -> None:
    row = [text(value, 50) for value in values]
    header = " | ".join("h" for _ in row)
    rule = " | ".join("---" for _ in row)
    table = f"| {header} |\n| {rule} |\n| {' | '.join(row)} |\n"
    assert "<" not in table
    assert ">" not in table
    rows = cells(table)
    assert len(rows) == 2
    for shown, value in zip(rows[1], values, strict=True):
        wanted = plain(value)
        wanted = wanted if len(wanted) <= 50 else f"{wanted[:49]}…"
        assert shown.replace("\u2060", "") == (wanted or "—")


@given(nasty)
def test_text_from_outside_never_becomes_an_address_to_click(value: str) -> None:
    shown = text(value, 600)
    assert not re.search(r"://|www\.|@[-\w]", shown, re.IGNORECASE)


@given(nasty)
def test_an_id_is_code_only_if_it_looks_like_one(value: str) -> None:
    shown = code(value)
    assert shown == f"`{value}`" or shown == text(value, 100)
    assert code("req_01-AB.c:9") == "`req_01-AB.c:9`"


def test_times_are_said_in_utc_and_with_their_age() -> None:
    assert when(NOW - 3 * HOUR, NOW) == "2026-11-24 17:15 UTC (3 h ago)"
    assert when(None, NOW) == "—"
    assert ago(NOW, NOW) == "just now"
    assert ago(NOW - timedelta(minutes=59, seconds=59), NOW) == "59 min ago"
    assert ago(NOW - 47 * HOUR, NOW) == "47 h ago"
    assert ago(NOW - 49 * HOUR, NOW) == "2 d ago"
    assert ago(NOW + timedelta(minutes=5), NOW) == "in 5 min"


def test_links_lead_to_the_artifact_and_to_the_filled_in_form() -> None:
    links = ReportLinks(ui_url="http://127.0.0.1:4200/", check_deployment_id="0193")
    assert links.artifact("connection-acme") == (
        "http://127.0.0.1:4200/artifacts/key/connection-acme"
    )
    form = urlsplit(links.check("c (1)") or "")
    assert form.path == "/deployments/deployment/0193/run"
    assert json.loads(parse_qs(form.query)["parameters"][0]) == {"connection": "c (1)"}
    assert "(" not in form.query
    assert LINKS.artifact("fleet") == "../../artifacts/key/fleet"
    assert ReportLinks().check("c") is None
    known = ReportLinks(artifact_ids={"fleet": "01a"})
    assert known.artifact("fleet") == "../../artifacts/artifact/01a"
    assert known.artifact("incidents") == "../../artifacts/key/incidents"


def trouble(value: str, n: int = 0) -> TroubleLine:
    return TroubleLine(
        id=new_id(),
        label=value,
        name=value,
        slug=f"acme-{n}",
        critical=True,
        app="default",
        hosting="on-premises",
        health=Health.unreachable,
        since=NOW - HOUR,
        last_checked_at=NOW,
        answer=Observation(
            connection_id="x", source="probe", outcome="missed", code=value, message=value,
            request_id=value,
        ),
        incident=OpenIncident(
            "i", value, "unreachable", NOW - HOUR, acknowledged_at=NOW, acknowledged_by=value
        ),
    )  # fmt: skip


def fleet_of(troubles: list[TroubleLine], total: int, **changes: Any) -> FleetReport:
    values: dict[str, Any] = {
        "at": NOW,
        "by_health": {Health.healthy: total - len(troubles), Health.unreachable: len(troubles)},
        "by_setup": {"live": total},
        "apps": [AppLine("default", "observe", total, total - len(troubles), NOW)],
        "troubles": troubles,
        "troubles_total": len(troubles),
        "tokenless": [],
        "tokenless_total": 0,
        "history": [],
    }
    return FleetReport(**(values | changes))


def svgs(markdown: str) -> list[ElementTree.Element]:
    return [
        ElementTree.fromstring(base64.b64decode(found))
        for found in re.findall(r"\(data:image/svg\+xml;base64,([^)]+)\)", markdown)
    ]


def columns(markdown: str) -> set[int]:
    """The numbers of columns of all tables' rows, as another parser sees them."""
    tokens = MARKDOWN.parse(markdown)
    found: set[int] = set()
    for n, token in enumerate(tokens):
        if token.type == "tr_open":
            row = itertools.takewhile(lambda one: one.type != "tr_close", tokens[n:])
            found.add(sum(one.type in ("td_open", "th_open") for one in row))
    return found


def targets(markdown: str) -> Iterable[str]:
    for token in MARKDOWN.parse(markdown):
        for child in token.children or []:
            if child.type in ("link_open", "image"):
                yield str(child.attrGet("href") or child.attrGet("src"))


@given(nasty)
def test_a_fleet_full_of_hostile_names_is_still_its_two_tables(value: str) -> None:
    report = fleet_of(
        [trouble(value)],
        3,
        apps=[AppLine(value, value, 3, 2, None, value)],
        by_setup={value: 3},
        tokenless=[value],
        tokenless_total=1,
    )
    markdown = fleet_markdown(report, LINKS)
    assert "<" not in markdown
    assert columns(markdown) == {4, 6}
    assert {urlsplit(one).scheme for one in targets(markdown)} == {"data", ""}
    assert [t.content for t in MARKDOWN.parse(markdown) if t.type in ("code_block", "fence")] == []
    assert len([t for t in MARKDOWN.parse(markdown) if t.type == "heading_open"]) == 4


@given(nasty)
def test_a_connection_full_of_hostile_text_is_still_its_tables(value: str) -> None:
    report = ConnectionReport(
        at=NOW,
        label=value,
        connection=Connection(
            app=value, makini_key=value, makini_id=value, name=value, slug="a", provider=value,
            hosting=value, tier=value, tags=[value], setup=value, health=value,
            list_status=value, sync_status=value, next_probe_at=NOW,
        ),
        customer=Customer(name=value, slug="a", owner=value, critical=True),
        has_token=False,
        mode=value,
        incidents=[OpenIncident("i", value, value, NOW, NOW, value)],
        transitions=[
            Transition(
                connection_id="x", at=NOW, axis=axis, before=value, after=value, source=value,
                evidence={value: value, "request_id": value, "nested": {"a": [value]}},
            )
            for axis in ("health", value)
        ],
        observations=[
            Observation(
                connection_id="x", at=NOW, source=value, outcome=value, code=value,
                message=value, request_id=value, latency=1.0,
            )
        ],
    )  # fmt: skip
    markdown = connection_markdown(report, LINKS)
    assert "<" not in markdown
    assert columns(markdown) == {2, 3, 4}
    assert {urlsplit(one).scheme for one in targets(markdown)} == {"data", ""}
    assert len(svgs(markdown)) == 1


def test_ten_thousand_in_trouble_with_the_worst_names_fit_in_half_a_megabyte() -> None:
    shown = [trouble("&" * 500, n) for n in range(TROUBLES_SHOWN)]
    markdown = fleet_markdown(fleet_of(shown, 10_000, troubles_total=10_000), LINKS)
    assert len(markdown.encode()) < 500_000
    rows = markdown.count("| 🔴 unreachable since ")
    assert rows > 50
    assert f"… and {10_000 - rows:,} more" in markdown


@pytest.mark.parametrize(
    ("report", "headline"),
    [
        (fleet_of([], 0, by_health={}, by_setup={}, apps=[]), "No connections yet"),
        (fleet_of([], 41), "All 41 connections are healthy"),
        (fleet_of([trouble("Acme")], 41), "1 of 41 connections is in trouble"),
        (
            fleet_of([], 3, by_health={Health.healthy: 1, Health.unknown: 2}),
            "No trouble among 3 connections (2 not live yet)",
        ),
    ],
)
def test_the_headline_says_how_the_fleet_is(report: FleetReport, headline: str) -> None:
    assert fleet_markdown(report, LINKS).startswith(f"# {headline}\n")


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
        one.id
        for one in every
        if is_trouble(one.setup, one.health, answered=one.last_answered_at is not None)
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
        Credential(connection_id=fine.id, access_token="x"),
        AppState(app="default", last_list_at=NOW),
    )  # fmt: skip
    report = await fleet_report(store, CONFIGURATION, now=NOW, notes={"second": "gone"})
    assert [one.label for one in report.troubles] == ["Vital · UpKeep", "Acme · UpKeep", "X"]
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
        AppLine("default", "manage", 3, 1, NOW),
        AppLine("second", None, 1, 0, None, "gone"),
    ]
    markdown = fleet_markdown(report, LINKS)
    assert f"[Acme · UpKeep](../../artifacts/key/{artifact_key(newest.slug)})" in markdown
    assert "`504` · gateway · request `r2`" in markdown
    assert "acknowledged by Ana" in markdown
    assert LINKS.check(newest.id) in markdown
    assert len(svgs(markdown)) == 1


async def test_the_history_is_what_the_transitions_say(store: Store) -> None:
    one, two, gone = a_connection(1), a_connection(2), a_connection(3, setup="disconnected")

    def change(of: Connection, ago: timedelta, before: str, after: str, axis: str = "health"):
        return Transition(
            connection_id=of.id, at=NOW - ago, axis=axis, before=before, after=after, source="probe"
        )

    await write(
        store,
        one,
        two,
        gone,
        change(one, 5 * HOUR, "healthy", "unreachable"),
        change(one, 4 * HOUR, "unreachable", "healthy"),
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
    one = a_connection(1, created_at=born)
    await write(
        store,
        one,
        Transition(
            connection_id=one.id, at=born, axis="health", before="unknown", after="healthy",
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
    one = a_connection(1, customer_id=acme.id, health=Health.reauthorization_required)
    other = a_connection(2)
    incident = Incident(
        kind="reauthorization_required", scope="connection", cause="c:1", app="default",
        title="Acme · UpKeep has to sign in", opened_at=NOW - HOUR,
    )  # fmt: skip
    minutes = [NOW - timedelta(minutes=n) for n in range(TRANSITIONS_SHOWN + 5)]
    await write(
        store,
        acme,
        one,
        other,
        incident,
        IncidentConnection(
            incident_id=incident.id, connection_id=one.id, kind="reauthorization_required"
        ),
        *(
            Transition(
                connection_id=one.id, at=at, axis="health", before="healthy",
                after="reauthorization_required", source="probe", evidence={"request_id": f"t{n}"},
            )
            for n, at in enumerate(minutes)
        ),
        *(
            Observation(
                connection_id=one.id, at=at, source="probe", outcome="login_lost", code="401",
                message="fail", request_id=f"o{n}", latency=0.25,
            )
            for n, at in enumerate(minutes)
        ),
    )  # fmt: skip
    reports = await connection_reports(store, CONFIGURATION, [other.id, new_id(), one.id], now=NOW)
    assert [report.connection.id for report in reports] == [other.id, one.id]
    report = reports[1]
    assert report.label == "Acme · UpKeep"
    assert [seen.request_id for seen in report.observations] == [
        f"o{n}" for n in range(OBSERVATIONS_SHOWN)
    ]
    assert len(report.transitions) == TRANSITIONS_SHOWN
    assert report.transitions[0].at == NOW
    assert [one.title for one in report.incidents] == ["Acme · UpKeep has to sign in"]
    markdown = connection_markdown(report, LINKS)
    assert markdown.startswith("# 🔑 Acme · UpKeep: login lost\n")
    assert "the customer has to sign in again" in markdown
    assert "Linekeeper has no token for it" in markdown
    assert "`o0`" in markdown
    assert "request `t0`" in markdown
    assert "None." in connection_markdown(reports[0], LINKS)


@pytest.mark.parametrize("health", [*Health])
@pytest.mark.parametrize("setup", ["live", "disconnected"])
def test_every_state_has_a_next_step(health: Health, setup: str) -> None:
    report = ConnectionReport(
        NOW, "Acme", a_connection(1, health=health, setup=setup), None, True, None, [], [], []
    )
    following = connection_markdown(report, LINKS).split("## What happens next\n\n")[1]
    assert len(following.split("\n\n")[0]) > 10
    assert ("was disconnected" in following) == (setup == "disconnected")
