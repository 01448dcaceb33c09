"""Who joins an incident that stands in Slack as one line of a message about several is named."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import select
from sqlmodel import col

from linekeeper.store.tables import Connection, Customer
from sandbox.slack import SlackFaults
from tests.notify.conftest import Desk
from tests.notify.test_evaluate import at, with_policy
from tests.notify.test_merged import become

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

LOST = "reauthorization_required"
EVENING = datetime(2026, 3, 4, 21, 0, tzinfo=UTC)
NIGHT = datetime(2026, 3, 4, 23, 30, tzinfo=UTC)
MORNING = datetime(2026, 3, 5, 7, 0, tzinfo=UTC)


async def _connections(desk: Desk) -> list[str]:
    """The ids of all connections, by their customers' names."""
    rows = (
        select(col(Connection.id))
        .join(Customer, col(Customer.id) == col(Connection.customer_id))
        .order_by(col(Customer.name))
    )
    async with desk.store.read() as session:
        return list(await session.scalars(rows))


async def _night(desk: Desk) -> list[str]:
    """Seven customers of one provider, of whom four lose their logins at night: in the morning
    those are four lines of the summary. One more makes them one incident, which is one line."""
    with_policy(desk, quiet_hours="22:00-07:00")
    at(desk, EVENING)
    for n in range(7):
        await desk.open(customer=f"Customer {n}", kind=LOST)
    ids = await _connections(desk)
    await become(desk, ids, "healthy")
    await desk.deliver()
    at(desk, NIGHT)
    await become(desk, ids[:4], LOST)
    await desk.deliver()
    at(desk, MORNING)
    await desk.deliver()
    assert _replies(desk) == []
    return ids


async def _fall(desk: Desk, ids: Sequence[str]) -> None:
    await become(desk, ids, LOST)
    await desk.deliver()


def _summary(desk: Desk) -> dict[str, Any]:
    [summary] = [each for each in desk.messages() if "Quiet-hours summary" in each["text"]]
    return summary


def _replies(desk: Desk) -> list[str]:
    """What its thread says of who joined."""
    return [str(reply["text"]) for reply in _summary(desk)["replies"] if "Joined" in reply["text"]]


async def test_who_joins_an_incident_of_the_summary_is_named_in_its_thread(desk: Desk) -> None:
    """Universes 31745 and 32012."""
    ids = await _night(desk)
    await _fall(desk, ids[4:6])
    [said] = _replies(desk)
    assert said.startswith("sap-ecc · 6 connections — Reauthorization required")
    assert all(f"Customer {n} · SAP ECC" in said for n in (4, 5))
    await _fall(desk, ids[6:])
    [said] = _replies(desk)
    assert "Joined: 7 connections" in said
    assert all(f"Customer {n} · SAP ECC" in said for n in range(7))
    await _fall(desk, ())
    assert len(_replies(desk)) == 1


async def test_its_line_names_who_is_affected(desk: Desk) -> None:
    ids = await _night(desk)
    await _fall(desk, ids)
    shown = str(_summary(desk)["blocks"])
    assert all(f"Customer {n} · SAP ECC" in shown for n in range(4))
    line = shown[shown.index("sap-ecc · 7 connections") :]
    assert "and 2 more) · since" in line
    await become(desk, ids[:5], "healthy")
    await desk.deliver()
    shown = str(_summary(desk)["blocks"])
    line = shown[shown.index("sap-ecc · 7 connections") :]
    assert "(Customer 5 · SAP ECC, Customer 6 · SAP ECC) · since" in line


async def test_the_first_of_a_wide_incident_is_named_and_no_name_stands_twice(desk: Desk) -> None:
    """Universe 13091: the others of it are only suspect yet, so that its title counts one."""
    with_policy(desk, quiet_hours="22:00-07:00")
    at(desk, NIGHT)
    wide = await desk.open(customer="Acme")
    await desk.change(wide, "changed", scope="provider", title="sap-ecc · 1 connection")
    await desk.open(customer="Borealis")
    await desk.deliver()
    at(desk, MORNING)
    await desk.deliver()
    shown = str(_summary(desk)["blocks"])
    assert "sap-ecc · 1 connection — Unreachable (Acme · SAP ECC) · since" in shown
    assert "Borealis · SAP ECC — Unreachable · since" in shown


async def test_what_slack_did_not_take_names_them_once_it_does(desk: Desk) -> None:
    ids = await _night(desk)
    desk.slack.faults = SlackFaults(mode="429")
    await _fall(desk, ids[4:])
    desk.slack.faults = SlackFaults()
    for _ in range(4):
        await _fall(desk, ())
    [said] = _replies(desk)
    assert "Customer 6" in said


async def test_one_that_is_over_meanwhile_names_nobody_any_more(desk: Desk) -> None:
    ids = await _night(desk)
    await become(desk, ids[4:], LOST)
    await become(desk, ids, "healthy")
    await desk.deliver()
    assert _replies(desk) == []


async def test_where_replies_are_not_taken_its_line_has_to_do(desk: Desk) -> None:
    ids = await _night(desk)
    desk.slack.faults = SlackFaults(replies="restricted_action_thread_locked")
    await _fall(desk, ids[4:])
    assert _replies(desk) == []
    assert "Customer 4" in str(_summary(desk)["blocks"])
