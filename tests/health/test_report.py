"""The artifacts of the fleet and of one connection, as they read."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given

from linekeeper.health.evidence import Health
from linekeeper.notify.view import FROM_A_PAGE, Links
from linekeeper.store import new_id
from linekeeper.store.tables import (
    Connection,
    Customer,
    Incident,
    Observation,
    Transition,
)
from linekeeper.views.connection_page import connection_markdown
from linekeeper.views.fleet_models import (
    AppLine,
    ConnectionReport,
    FleetReport,
    TroubleLine,
)
from linekeeper.views.fleet_page import fleet_markdown
from linekeeper.views.fleet_queries import TROUBLES_SHOWN
from tests.reading import MARKDOWN, columns, nasty, svgs, targets

NOW = datetime(2026, 11, 24, 20, 15, tzinfo=UTC)
HOUR = timedelta(hours=1)
LINKS = Links(FROM_A_PAGE, {"check-connection": "0193-check", "explain": "0193-explain"})


def test_links_lead_to_the_artifact_and_to_the_filled_in_form() -> None:
    links = Links("http://127.0.0.1:4200/", {"check-connection": "0193"})
    assert links.artifact("connection-acme") == (
        "http://127.0.0.1:4200/artifacts/key/connection-acme"
    )
    form = urlsplit(links.form("check-connection", {"connection": "c (1)"}) or "")
    assert form.path == "/deployments/deployment/0193/run"
    assert json.loads(parse_qs(form.query)["parameters"][0]) == {"connection": "c (1)"}
    assert "(" not in form.query
    assert LINKS.artifact("fleet") == "../../artifacts/key/fleet"
    assert Links(FROM_A_PAGE).form("check-connection", {}) is None
    form = urlsplit(LINKS.form("explain", {"subject": "i-7"}) or "")
    assert form.path == "../../deployments/deployment/0193-explain/run"
    assert json.loads(parse_qs(form.query)["parameters"][0]) == {"subject": "i-7"}
    known = Links(FROM_A_PAGE, artifact_ids={"fleet": "01a"})
    assert known.artifact("fleet") == "../../artifacts/artifact/01a"
    assert known.artifact("digest") == "../../artifacts/key/digest"


def incident(value: str, opened_at: datetime) -> Incident:
    return Incident(
        id="i", kind="unreachable", scope="connection", cause="c", app="default",
        title=value, opened_at=opened_at, acknowledged_at=NOW, acknowledged_by=value,
    )  # fmt: skip


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
        incident=incident(value, NOW - HOUR),
    )  # fmt: skip


def fleet_of(troubles: list[TroubleLine], total: int, **changes: Any) -> FleetReport:
    values: dict[str, Any] = {
        "at": NOW,
        "by_health": {Health.healthy: total - len(troubles), Health.unreachable: len(troubles)},
        "by_setup": {"live": total},
        "apps": [AppLine("default", "observe", total, total - len(troubles), NOW)],
        "troubles": troubles,
        "troubles_total": len(troubles),
        "evidence": {},
        "tokenless": [],
        "tokenless_total": 0,
        "history": [],
    }
    return FleetReport(**(values | changes))


@given(nasty)
def test_a_fleet_full_of_hostile_names_is_still_its_lists(value: str) -> None:
    report = fleet_of(
        [trouble(value)],
        3,
        apps=[AppLine(value, value, 3, 2, None, left_out=1)],
        by_setup={value: 3},
        tokenless=[value],
        tokenless_total=1,
    )
    markdown = fleet_markdown(report, LINKS)
    assert "<" not in markdown
    assert columns(markdown) == set()
    assert len([t for t in MARKDOWN.parse(markdown) if t.type == "list_item_open"]) == 2
    assert {urlsplit(target).scheme for target in targets(markdown)} == {"data", ""}
    assert [t.content for t in MARKDOWN.parse(markdown) if t.type in ("code_block", "fence")] == []
    assert len([t for t in MARKDOWN.parse(markdown) if t.type == "heading_open"]) == 4


def test_a_name_that_leads_to_its_page_shows_as_it_is_written() -> None:
    """Prefect shows the label of a link with its backslashes and entities, which Markdown drops."""
    markdown = fleet_markdown(fleet_of([trouble("R_D & Söhne · SAP_ECC #2")], 3), LINKS)
    assert "**[R_D & Söhne · SAP_ECC #2](../../artifacts/key/connection-acme-0)**" in markdown


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
        incidents=[incident(value, NOW)],
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
    assert columns(markdown) == {2, 4}
    # Prefect shows no more of a table than its page is wide: no request id is in one.
    assert "\n|" not in markdown.partition("## State changes")[2]
    assert "/0193-explain/run?" in markdown
    assert {urlsplit(target).scheme for target in targets(markdown)} == {"data", ""}
    assert len(svgs(markdown)) == 1


def test_ten_thousand_in_trouble_with_the_worst_names_fit_in_half_a_megabyte() -> None:
    shown = [trouble("&" * 500, n) for n in range(TROUBLES_SHOWN)]
    markdown = fleet_markdown(fleet_of(shown, 10_000, troubles_total=10_000), LINKS)
    assert len(markdown.encode()) < 500_000
    rows = markdown.count("- 🔴 Unreachable since ")
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
            "No trouble among 3 connections (2 not live or not checked yet)",
        ),
    ],
)
def test_the_headline_says_how_the_fleet_is(report: FleetReport, headline: str) -> None:
    assert fleet_markdown(report, LINKS).startswith(f"# {headline}\n")


@pytest.mark.parametrize("health", [*Health])
@pytest.mark.parametrize("setup", ["live", "disconnected"])
def test_every_state_has_a_next_step(health: Health, setup: str) -> None:
    connection = Connection(
        app="default", makini_key="k", name="A", slug="a", health=health, setup=setup
    )
    report = ConnectionReport(NOW, "Acme", connection, None, True, None, [], [], [])
    following = connection_markdown(report, LINKS).split("## What happens next\n\n")[1]
    assert len(following.split("\n\n")[0]) > 10
    assert ("was disconnected" in following) == (setup == "disconnected")
