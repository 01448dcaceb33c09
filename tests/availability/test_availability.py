"""Minutes by what was waited for: they sum to the whole, and are the true ones."""

import csv
import io
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as some
from sqlalchemy import select, update

from linekeeper.availability.decide import (
    History,
    TimeSpan,
    Troubles,
    Turn,
    WaitedFor,
    line_of,
    whole_minutes,
)
from linekeeper.availability.service import (
    InvalidMonth,
    as_csv,
    markdown,
    month_of,
    read_month,
    sentence,
)
from linekeeper.notify.view import Links
from linekeeper.store import Store
from linekeeper.store.tables import (
    Connection,
    Customer,
    Incident,
    IncidentConnection,
    Outage,
    Transition,
)
from linekeeper.store.tables.health import SWEEP_OVERDUE
from linekeeper.views.digest_page import gather, slack_text
from linekeeper.views.digest_page import markdown as day_page
from tests.cli.commands import CommandLine
from tests.cli.conftest import command

__all__ = ["command"]

START = datetime(2026, 11, 1, tzinfo=UTC)
END = datetime(2026, 12, 1, tzinfo=UTC)
MONTH = TimeSpan(START, END)
HOUR = timedelta(hours=1)
HEALTHS = ("healthy", "degraded", "unreachable", "reauthorization_required", "inactive", "unknown")
moments = some.integers(-40_000, 90_000).map(lambda minutes: START + timedelta(minutes=minutes))
spans = some.builds(lambda one, two: TimeSpan(min(one, two), max(one, two)), moments, moments)


@given(
    some.lists(some.builds(Turn, moments, some.sampled_from(HEALTHS)), max_size=12),
    some.lists(spans, max_size=3),
    some.lists(spans, max_size=3),
    some.lists(spans, max_size=3),
)
def test_the_minutes_of_a_month_sum_to_the_whole(
    turns: list[Turn], ours: list[TimeSpan], apps: list[TimeSpan], products: list[TimeSpan]
) -> None:
    health = [Turn(START, "unknown"), *sorted(turns, key=lambda turn: turn.at)]
    history = History("Acme · SAP", "Acme", [Turn(START, "live")], health, "default", "c1")
    line = line_of(history, Troubles(ours, {"default": apps}, {"default": products}), MONTH)
    assert line.total == 30 * 24 * 60
    assert all(minutes >= 0 for minutes in line.minutes.values())


@given(some.lists(some.floats(0, 1e6), min_size=7, max_size=7))
def test_rounding_loses_no_minute(seconds: list[float]) -> None:
    minutes = whole_minutes(dict(zip(WaitedFor, seconds, strict=True)))
    assert sum(minutes.values()) == round(sum(seconds) / 60)


async def planted(store: Store) -> datetime:
    """A month whose truth is known, of one connection that went live on its second day."""
    customer = Customer(name="=Acme", slug="acme")
    connection = Connection(
        app="default",
        makini_key="k",
        name="n",
        slug="c",
        provider="SAP ECC",
        customer_id=customer.id,
        setup="live",
        health="healthy",
        created_at=START - timedelta(days=9),
    )
    turns = [
        ("setup", -200, "pending", "syncing"),
        ("setup", 24, "syncing", "live"),
        ("health", -100, "unknown", "healthy"),
        ("health", 48, "healthy", "reauthorization_required"),
        ("health", 58, "reauthorization_required", "healthy"),
        ("health", 100, "healthy", "unreachable"),
        ("health", 103, "unreachable", "healthy"),
        ("health", 200, "healthy", "unreachable"),
        ("health", 204, "unreachable", "unknown"),
        ("health", 206, "unknown", "degraded"),
        ("health", 211, "degraded", "healthy"),
        ("health", 220, "healthy", "unreachable"),
        ("health", 223, "unreachable", "healthy"),
        ("health", 800, "healthy", "inactive"),
    ]
    async with store.write() as session:
        session.add(customer)
        await session.flush()
        session.add(connection)
        await session.flush()
        for axis, hours, before, after in turns:
            session.add(
                Transition(
                    connection_id=connection.id,
                    at=START + hours * HOUR,
                    axis=axis,
                    before=before,
                    after=after,
                    source="probe",
                )
            )
        incidents = (
            ("unreachable", 199, 202),
            ("list_failed", 220, 222),
            ("forward_refused", 300, 307),
            ("forward_behind", 310, 313),
        )
        found_after = {"forward_refused": 5, "forward_behind": 15}
        for kind, since, until in incidents:
            found = START + since * HOUR + timedelta(minutes=found_after.get(kind, 0))
            session.add(
                Incident(
                    kind=kind,
                    scope="app",
                    cause=kind,
                    app="default",
                    title="t",
                    status="resolved",
                    opened_at=found,
                    resolved_at=START + until * HOUR,
                )
            )
        session.add(Outage(since=START + 205 * HOUR, until=START + 210 * HOUR))
    return END + 40 * 24 * HOUR


TRUTH = {
    WaitedFor.customer_login: 10,
    WaitedFor.customer_system: 3 + 2 + 1,
    WaitedFor.makini: 2 + 2,
    WaitedFor.unknown: 1 + 5,
    WaitedFor.us: 1,
    WaitedFor.product: 7 + 3,
}


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\n", "\uff1d", "\uff20"])
async def test_no_name_is_a_formula_in_csv(store: Store, begin: str) -> None:
    now = await planted(store)
    async with store.write() as session:
        await session.execute(update(Customer).values(name=f"{begin}1+1"))
    [row] = csv.DictReader(io.StringIO(as_csv(await read_month(store, "2026-11", now=now))))
    assert row["customer"][0] == "'"


async def test_a_month_is_what_happened_in_it(store: Store) -> None:
    now = await planted(store)
    month = await read_month(store, "2026-11", now=now)
    [line] = month.lines
    hours = {waiting: minutes / 60 for waiting, minutes in line.minutes.items()}
    live = 30 * 24 - 24
    assert hours == TRUTH | {WaitedFor.healthy: live - sum(TRUTH.values())}
    [row] = csv.DictReader(io.StringIO(as_csv(month)))
    assert row["customer"] == "'=Acme"  # no formula for a spreadsheet
    assert int(row["total"]) == sum(int(row[waiting.value]) for waiting in WaitedFor) == live * 60
    assert "| =Acme |" in markdown(month)
    assert sentence(month).startswith("2026-11: 94.68 % healthy; waited for: Customer's login 1.44")
    assert not (await read_month(store, "2026-09", now=now)).lines


@pytest.mark.parametrize(
    ("others", "own", "makini"),
    [
        pytest.param([(100, 101), (102, 103)], [(100, 101), (102, 103)], 2, id="all, twice"),
        pytest.param([(100, 101)], [(100, 101), (102, 103)], 1, id="all, then one again"),
        pytest.param([(100, 101)], [(100, 103)], 1, id="all, and one for longer"),
        pytest.param([(102, 103)], [(100, 103)], 1.25, id="one, then all"),
    ],
)
async def test_makinis_is_the_time_in_which_an_apps_connections_were_away_together(
    store: Store, others: list[tuple[int, int]], own: list[tuple[int, int]], makini: float
) -> None:
    """An incident begins with its first connection, ends with its last, and may be reopened."""
    now = await planted(store)
    async with store.write() as session:
        incident = Incident(
            kind="unreachable",
            scope="app",
            cause="again",
            app="default",
            title="t",
            status="resolved",
            opened_at=START + 100 * HOUR,
            reopened_at=None if len(own) == 1 else START + 102 * HOUR,
            resolved_at=START + 103 * HOUR,
        )
        more = [
            Connection(
                app="default",
                makini_key=f"other-{number}",
                name=f"other {number}",
                slug=f"other-{number}",
                created_at=now,
            )
            for number in range(3)
        ]
        session.add_all([incident, *more])
        await session.flush()
        [known] = await session.scalars(select(Connection.id).where(Connection.makini_key == "k"))
        for each in more:
            for since, until in others:
                for hours_in, before, after in (
                    (since, "healthy", "unreachable"), (until, "unreachable", "healthy"),
                ):  # fmt: skip
                    session.add(Transition(
                        connection_id=each.id, at=START + hours_in * HOUR, axis="health",
                        before=before, after=after, source="probe",
                    ))  # fmt: skip
        for connection_id, spans in ((known, own), *((each.id, others) for each in more)):
            for since, until in spans:
                member = IncidentConnection(
                    incident_id=incident.id,
                    connection_id=connection_id,
                    topic="health",
                    kind="unreachable",
                    joined_at=START + since * HOUR,
                    left_at=START + until * HOUR,
                )
                session.add(member)
    [line] = (await read_month(store, "2026-11", now=now)).lines
    hours = {waiting: minutes / 60 for waiting, minutes in line.minutes.items()}
    assert hours[WaitedFor.makini] == TRUTH[WaitedFor.makini] + makini
    assert hours[WaitedFor.customer_system] == TRUTH[WaitedFor.customer_system] - makini


async def test_who_was_in_other_trouble_before_or_is_left_alone_after_is_not_makinis(
    store: Store,
) -> None:
    """Universe 11647: an incident began with one that was degraded, and went on for another."""
    first, other = (
        Connection(
            app="default", makini_key=key, name=key, slug=key, setup="live", health="healthy",
            created_at=START - HOUR,
        )
        for key in ("first", "other")
    )  # fmt: skip
    turns = [
        (first, 10, "healthy", "degraded"),
        (first, 14, "degraded", "unreachable"),
        (first, 15, "unreachable", "healthy"),
        (other, 14, "healthy", "unreachable"),
        (other, 18, "unreachable", "healthy"),
    ]
    incident = Incident(
        kind="unreachable", scope="app", cause="both", app="default", title="t",
        status="resolved", opened_at=START + 10 * HOUR, resolved_at=START + 18 * HOUR,
    )  # fmt: skip
    async with store.write() as session:
        session.add_all([first, other, incident])
        await session.flush()
        for connection, hours, before, after in turns:
            session.add(Transition(
                connection_id=connection.id, at=START + hours * HOUR, axis="health",
                before=before, after=after, source="probe",
            ))  # fmt: skip
        for connection, since, until in ((first, 10, 15), (other, 14, 18)):
            session.add(IncidentConnection(
                incident_id=incident.id, connection_id=connection.id, topic="health",
                kind="unreachable", joined_at=START + since * HOUR, left_at=START + until * HOUR,
            ))  # fmt: skip
    month = await read_month(store, "2026-11", now=START + 20 * HOUR)
    hours = {line.label: {each: minutes / 60 for each, minutes in line.minutes.items() if minutes}
             for line in month.lines}  # fmt: skip
    assert hours == {
        "first": {WaitedFor.healthy: 15, WaitedFor.unknown: 4, WaitedFor.makini: 1},
        "other": {WaitedFor.healthy: 16, WaitedFor.makini: 1, WaitedFor.customer_system: 3},
    }


async def test_while_no_sweep_is_completed_what_was_well_is_not_known(store: Store) -> None:
    now = await planted(store)
    async with store.write() as session:
        session.add(
            Incident(
                kind="work_overdue",
                scope="house",
                cause=SWEEP_OVERDUE,
                app="",
                topic="parts",
                title="No sweep was completed",
                status="resolved",
                opened_at=START + 98 * HOUR,
                resolved_at=START + 102 * HOUR,  # unreachable from hour 100 on, as was found
            )
        )
    [line] = (await read_month(store, "2026-11", now=now)).lines
    hours = {waiting: minutes / 60 for waiting, minutes in line.minutes.items()}
    assert hours[WaitedFor.unknown] == TRUTH[WaitedFor.unknown] + 2
    assert hours[WaitedFor.customer_system] == TRUTH[WaitedFor.customer_system]


@pytest.mark.parametrize("name", ["2026-13", "november", "2027-11", ""])
def test_what_is_no_month_is_refused(name: str) -> None:
    now = datetime(2026, 11, 28, tzinfo=UTC)
    if not name:
        assert month_of(name, now=now) == ("2026-11", TimeSpan(START, now))
        return
    with pytest.raises(InvalidMonth):
        month_of(name, now=now)


def test_the_command_prints_a_table_or_csv(command: CommandLine) -> None:
    command.migrated()
    assert "no connection was live" in command("availability").out
    said = command("availability", "--csv", "--month", "2026-01")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("month,customer,connection,healthy,customer_login")
    assert command("availability", "--month", "May").code == 1


async def test_the_digest_of_the_first_has_a_line_on_the_month_before(store: Store) -> None:
    await planted(store)
    first = await gather(store, {}, now=END + 7 * HOUR)
    assert "*Availability* 2026-11: 94.68 % healthy" in slack_text(first, Links())
    assert "**Availability** 2026-11" in day_page(first)
    second = await gather(store, {}, now=END + 31 * HOUR)
    assert "Availability" not in slack_text(second, Links())
