"""The page of every connection: by customer, in parts, with the way to each form and page."""

from datetime import UTC, datetime, timedelta

from linekeeper.notify.view import Links
from linekeeper.store import Store, new_id
from linekeeper.store.tables import Connection, Customer, Incident, IncidentConnection
from linekeeper.views import connections_page
from linekeeper.views.connections_page import A_PART, ConnectionRow, headline, pages, read_rows

NOW = datetime(2027, 3, 1, 9, tzinfo=UTC)


async def test_every_connection_is_there_grouped_by_customer_with_its_incident(
    store: Store,
) -> None:
    async with store.write() as session:
        bolt, acme = (Customer(name=name, slug=name.lower()) for name in ("Bolt", "acme"))
        session.add_all([bolt, acme])
        await session.flush()
        many = [
            Connection(app="default", makini_key="1", name="Bolt - SAP ECC", slug="b-sap",
                       provider="sap-ecc",
                       customer_id=bolt.id, health="healthy", setup="live"),
            Connection(app="default", makini_key="2", name="acme - SAP ECC", slug="a-sap",
                       provider="sap-ecc",
                       customer_id=acme.id, health="unreachable", setup="live"),
            Connection(app="default", makini_key="3", name="stray", slug="stray"),
            Connection(app="default", makini_key="4", name="gone", slug="gone",
                       setup="disconnected"),
        ]  # fmt: skip
        session.add_all(many)
        incident = Incident(
            id=new_id(), kind="unreachable", scope="connection", cause="t", app="default",
            title="acme · SAP ECC", opened_at=NOW,
        )  # fmt: skip
        session.add(incident)
        await session.flush()
        member = IncidentConnection(
            incident_id=incident.id, connection_id=many[1].id, kind="unreachable"
        )
        session.add(member)
    rows = await read_rows(store)
    assert [row.name for row in rows] == ["acme · SAP ECC", "Bolt · SAP ECC", "stray"], (
        "as messages call them"
    )
    assert headline(rows) == "3 connections of 2 customers, 1 with an open incident"
    forms = {name: name for name in ("check-connection", "reconcile", "explain")}
    links = Links(ui_url="../..", deployments=forms, artifact_ids={"connection-a-sap": "7"})
    [page] = pages(rows, links, NOW)
    order = [page.index(title) for title in ("## acme", "## Bolt", "## Without a customer")]
    assert order == sorted(order)
    [line] = [line for line in page.splitlines() if "Unreachable" in line]
    assert "artifacts/artifact/7" in line
    assert incident.id in line
    assert "[incident](" in line, "its own incident has the same name"
    assert "deployment/check-connection/run" in line
    assert "deployment/reconcile/run" in line
    assert "](../../artifacts" not in next(li for li in page.splitlines() if "**stray**" in li)


def test_many_are_shown_in_parts_that_lead_to_each_other_and_stay_small() -> None:
    rows = [
        ConnectionRow(f"{number:032}", f"slug-{number}", "N" * 60, "SAP ECC", "live", "healthy",
            "probed", NOW - timedelta(minutes=3), None, f"Customer {number // 3:05}", None)
        for number in range(A_PART * 2 + 1)
    ]  # fmt: skip
    ids = {connections_page.part_key(number): f"id-{number}" for number in (1, 2, 3)}
    links = Links(ui_url="../..", deployments={"check-connection": "c" * 36}, artifact_ids=ids)
    first, second, last = pages(rows, links, NOW)
    assert "\n\nwritten 2027-03-01 09:00:00 UTC · parts: **1** · " in first
    assert "**1** · [2](../../artifacts/artifact/id-2)" in first
    assert "[1](../../artifacts/artifact/id-1) · **2**" in second
    assert last.count("Healthy") == 1
    assert max(len(page.encode()) for page in (first, second)) < 400_000
