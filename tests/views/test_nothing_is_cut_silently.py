"""A page that can't show everything says how much it leaves out."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

from linekeeper.config import AppConfig, Configuration
from linekeeper.customers.adopt import Adoption
from linekeeper.implementation.report import SLIPPING_SHOWN, PortfolioLine, portfolio_markdown
from linekeeper.inbox.replay import ReplayLine, ReplayPlan
from linekeeper.notify.view import FROM_A_PAGE, Links
from linekeeper.outbox.given_up import GivenUpForward, GivenUpForwards
from linekeeper.preflight.evidence import unowned_targets
from linekeeper.preflight.run import PreflightVerdicts
from linekeeper.reconcile.match_decisions import Group, WaitingMatches
from linekeeper.reconcile.target import PollTarget
from linekeeper.store import Store, new_id
from linekeeper.store.tables import (
    Connection,
    Deletion,
    Gate,
    Implementation,
    Observation,
    Outage,
    Record,
    Transition,
    WebhookEvent,
)
from linekeeper.text import sentences
from linekeeper.views.adoption_page import adoption_markdown
from linekeeper.views.connection_page import connection_markdown
from linekeeper.views.fleet_queries import connection_reports
from linekeeper.views.match_page import match_markdown
from linekeeper.views.replay_page import forwards_markdown, replay_markdown
from linekeeper.views.trust_page import trust_markdown
from linekeeper.views.trust_queries import MOST_HELD, trust_report
from linekeeper.views.webhook_figures import LISTED, read_figures
from linekeeper.views.webhooks_page import webhooks_markdown

NOW = datetime(2027, 3, 1, 9, tzinfo=UTC)


def test_sentences_say_how_many_are_left_out() -> None:
    assert sentences(["a", "b"]) == "a; b"
    assert sentences("abcdefg") == "a; b; c; d; e; and 2 more"
    assert sentences([]) == ""


def test_the_import_of_a_large_fleet_says_what_its_page_leaves_out() -> None:
    fleet = Adoption(
        new=[f"Customer {n} · SAP ECC" for n in range(2_000)],
        missing=[f"Customer {n} · UpKeep" for n in range(500)],
        customers=[f"Customer {n}" for n in range(1_501)],
    )
    page = adoption_markdown(fleet, dry_run=True)
    assert "| new | and 1,500 more |" in page
    assert "| new customer | and 1,001 more |" in page
    assert "| missing | and" not in page


def test_each_app_whose_list_looks_truncated_is_told_of() -> None:
    total = Adoption()
    for lacks in ("410 of 450 are missing.", "", "9 of 12 are missing."):
        total.add(Adoption(truncated=lacks, known=1))
    assert (total.truncated, total.known) == ("410 of 450 are missing. 9 of 12 are missing.", 3)


def acme_of_sap() -> Connection:
    return Connection(
        id=new_id(), app="default", makini_key="c1", name="Acme - SAP ECC", slug="acme",
        provider="SAP ECC", setup="live", created_at=NOW,
    )  # fmt: skip


async def test_deletions_that_wait_for_a_decision_are_counted(store: Store) -> None:
    connection = acme_of_sap()
    async with store.write() as session:
        session.add(connection)
        await session.flush()
        session.add_all(
            Deletion(
                id=new_id(), connection_id=connection.id, entity="eam/assets", status="proposed",
                records=9, live=10, at=NOW - timedelta(minutes=n),
            )
            for n in range(MOST_HELD + 7)
        )  # fmt: skip
    page = trust_markdown(await trust_report(store, now=NOW), Links(FROM_A_PAGE))
    assert page.count("eam/assets") == MOST_HELD
    assert "| and 7 more | | | | | |" in page


async def test_a_connection_has_more_history_than_its_page(store: Store) -> None:
    connection = acme_of_sap()
    async with store.write() as session:
        session.add(connection)
        await session.flush()
        session.add_all(
            Transition(
                connection_id=connection.id, at=NOW - timedelta(hours=n), axis="health",
                before="healthy", after="degraded", source="probe",
            )
            for n in range(60)
        )  # fmt: skip
        session.add_all(
            Observation(
                connection_id=connection.id, at=NOW - timedelta(hours=n), source="probe",
                outcome="missed",
            )
            for n in range(30)
        )  # fmt: skip
    [report] = await connection_reports(store, Configuration(), [connection.id], now=NOW)
    page = connection_markdown(report, Links(FROM_A_PAGE))
    changes, _, observations = page.partition("## Observations")
    assert changes.count("Healthy →") == 50
    assert changes.rstrip().endswith("- older ones are not on this page")
    assert observations.count("**missed**") == 20
    assert observations.rstrip().endswith("- older ones are not on this page")


def test_records_whose_contents_are_the_same_are_counted() -> None:
    def records(beginning: str) -> dict[str, Record]:
        return {
            f"{beginning}{n}": Record(
                connection_id="c", entity="eam/assets", key=f"{beginning}{n}", hash="h",
                plain_hash=f"p{n}",
            )
            for n in range(14)
        }  # fmt: skip

    target = PollTarget("c", AppConfig(), "c1", "c1", "Acme", timedelta(minutes=5), ())
    groups = [Group("eam/assets", records("old"), records("new"))]
    page = match_markdown(WaitingMatches(target, "acme", groups), None)
    assert page.count("and 4 more") == 3


async def test_targets_of_no_implementation_are_counted(store: Store) -> None:
    targets = tuple(f"h{n}.example:443" for n in range(7))
    said = await unowned_targets(store, PreflightVerdicts("inside", NOW, targets, ()))
    assert "h4.example:443 and 2 more: it is no evidence" in said


async def test_outages_of_our_own_are_counted(store: Store) -> None:
    async with store.write() as session:
        session.add_all(
            Outage(
                id=new_id(), cause="receiver", since=NOW - timedelta(minutes=9 * n + 5),
                until=NOW - timedelta(minutes=9 * n),
            )
            for n in range(13)
        )  # fmt: skip
    page = trust_markdown(await trust_report(store, now=NOW), Links(FROM_A_PAGE))
    assert "| and 3 more | | | |" in page


def test_messages_for_the_product_that_were_given_up_are_counted() -> None:
    shown = [GivenUpForward(f"e{n}", NOW, "it answers 500") for n in range(50)]
    assert "| and 7 more | | |" in forwards_markdown(GivenUpForwards(57, shown))


def test_webhooks_that_would_be_replayed_are_counted() -> None:
    shown = [ReplayLine(f"e{n}", NOW, "assets.updated", "c1", None) for n in range(50)]
    page = replay_markdown(ReplayPlan(90, 60, {"records": 90}, 0, shown), "dead")
    assert "| and 10 more | | | | |" in page


async def test_webhooks_of_no_known_connection_are_counted(store: Store) -> None:
    async with store.write() as session:
        session.add_all(
            WebhookEvent(
                id=new_id(), app="default", delivery_key=f"d{n}", source="webhook",
                event="assets.updated", kind="records", status="unrouted", body=b"{}",
                ordering_key="", received_at=NOW,
                processed_at=NOW, connection_ref=f"c{n}",
            )
            for n in range(LISTED + 3)
        )  # fmt: skip
    page = webhooks_markdown(await read_figures(store, ["default"], now=NOW))
    assert "… and 3 more" in page


def _implementation(**more: Any) -> Implementation:
    given: dict[str, Any] = {
        "id": new_id(), "key": "k", "slug": "acme", "title": "Acme · SAP ECC",
        "customer_id": new_id(), "complexity": "custom", "hosting": "cloud", "template": {},
        "kickoff": NOW.date(), "owner": "Petra", "started_at": NOW, "started_by": "Olaf",
        "p50": date(2027, 4, 1), "p80": date(2027, 4, 8), "planned_p50": date(2027, 4, 1),
        "planned_p80": date(2027, 4, 8), "forecast_at": NOW, "status": "running",
        "commitment": "none", "progress": 0.5,
    }  # fmt: skip
    return Implementation(**{**given, **more})


def test_the_portfolio_says_that_more_is_waited_for() -> None:
    implementation = _implementation()
    gates = [
        Gate(
            implementation_id=implementation.id,
            gate=f"g{n}",
            title=f"Step {n}",
            owner="customer",
            assignee="",
        )
        for n in range(5)
    ]
    page = portfolio_markdown([PortfolioLine(implementation, tuple(gates))], NOW, Links())
    assert "the customer: Step 1; and 3 more" in page


def test_of_many_that_slip_the_portfolio_tells_of_the_worst_and_lists_all() -> None:
    lines = []
    for n in reversed(range(SLIPPING_SHOWN + 30)):
        named = {"key": f"k{n}", "slug": f"s{n}", "title": f"Customer {n}"}
        slips = {"digest": f"Customer {n} slips.", "commitment": "late", "chance": n / 100}
        row = _implementation(**named, **slips, committed=NOW.date())
        lines.append(PortfolioLine(row))
    page = portfolio_markdown(lines, NOW, Links())
    above, _, table = page.partition("## Underway")
    is_named = [f"Customer {n} slips" in above for n in range(SLIPPING_SHOWN + 30)]
    assert is_named == [True] * SLIPPING_SHOWN + [False] * 30
    assert "and 30 more, by risk in the list below" in above
    assert all(f"Customer {n}" in table for n in range(SLIPPING_SHOWN + 30))
