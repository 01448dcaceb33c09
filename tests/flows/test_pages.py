"""A page says what is so: whatever changed it, and nothing is written that did not change."""

import asyncio
import functools
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import update
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.config import AppConfig
from linekeeper.markdown import when
from linekeeper.orchestrator import Blocks
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.configuration import save_blocks
from linekeeper.store.leases import holding
from linekeeper.store.tables import (
    Connection,
    Customer,
    Incident,
    IncidentConnection,
    Lease,
    PartHeartbeat,
    Transition,
    WebhookEvent,
)
from linekeeper.sweep.webhooks import watch_stream
from linekeeper.views import connections_page
from linekeeper.watch.queries import beat, done
from linekeeper.watch.service import watch
from tasks.prefect_adapter import pages as the_pages
from tasks.prefect_adapter.pages import keep_pages, put_artifact, write_all_connections
from tests.flows.conftest import Running, as_shown, on_both

pytestmark = on_both
LOST = "reauthorization_required"


async def test_a_page_is_written_again_when_what_it_shows_changes(
    running: Running, store: Store, settings: Settings
) -> None:
    now = utcnow()
    acme = Customer(name="Acme", slug="acme")
    lost = Connection(
        app="default", makini_key="k1", name="SAP ECC", slug="acme-sap", provider="SAP ECC",
        customer_id=acme.id, setup="live", health=LOST, health_since=now, evidence="read",
    )  # fmt: skip
    well = Connection(
        app="default", makini_key="k2", name="UpKeep", slug="acme-upkeep", provider="UpKeep",
        customer_id=acme.id, setup="live", health="healthy", health_since=now,
    )  # fmt: skip
    incident = Incident(
        kind=LOST, scope="connection", cause="c:1", app="default", title="Acme · SAP ECC",
        opened_at=now,
    )  # fmt: skip
    member = IncidentConnection(incident_id=incident.id, connection_id=lost.id, kind=LOST)
    async with store.write() as session:
        for row in (acme, lost, well, incident, member):
            session.add(row)
            await session.flush()

    async def change(table: Any, identifier: str, **values: object) -> None:
        async with store.write() as session:
            await session.execute(update(table).where(col(table.id) == identifier).values(**values))

    async def written() -> dict[str, str]:
        """The pages, by key."""
        keys = ["fleet", "audit", "connection-acme-sap", "connection-acme-upkeep"]
        ours = {"artifacts": {"key": {"any_": keys}}}  # the server is shared, a page of it is full
        answer = await running.client.request("POST", "/artifacts/filter", json=ours)
        return {artifact["key"]: as_shown(artifact) for artifact in answer.json()}

    async with Runtime.open(settings) as rt:

        async def kept() -> dict[str, str]:
            assert not await keep_pages(rt, running.client)
            return await written()

        pages = await kept()
        assert set(pages) >= {"fleet", "audit", "connection-acme-sap"}
        assert "connection-acme-upkeep" not in pages  # nobody asked for one of who is well
        assert "Reauthorization required" in pages["connection-acme-sap"]
        assert "UTC, and again when any of this changes" in pages["connection-acme-sap"]
        first = await kept()
        assert "1 of 2 connections is in trouble" in first["fleet"]

        # What does not show changes nothing: a page is not written for every probe.
        await change(Connection, well.id, last_checked_at=utcnow())
        assert await kept() == first

        await change(Incident, incident.id, acknowledged_at=utcnow(), acknowledged_by="Ana")
        assert "acknowledged by Ana" in (await kept())["connection-acme-sap"]

        # Healed by the consumer, between two sweeps.
        later = utcnow() + timedelta(minutes=3)
        async with store.write() as session:
            session.add(
                Transition(
                    connection_id=lost.id, at=later, axis="health", before=LOST,
                    after="healthy", source="login", evidence={},
                )
            )  # fmt: skip
        await change(Connection, lost.id, health="healthy", health_since=later)
        await change(Incident, incident.id, status="resolved", resolved_at=later)
        await change(IncidentConnection, member.id, left_at=later)
        healed = await kept()
        assert "🟢 Acme · SAP ECC" in healed["connection-acme-sap"]
        assert f"since {later:%Y-%m-%d %H:%M} UTC" in healed["connection-acme-sap"]
        assert "Reauthorization required" not in healed["connection-acme-sap"].split("## What")[0]
        assert "No trouble known of 2 connections" in healed["fleet"]

        # Its customer has another of the same product by now: each name means one.
        await change(Connection, lost.id, told_apart_by="Leeds")
        assert "🟢 Acme · SAP ECC (Leeds)" in (await kept())["connection-acme-sap"]
        await change(Connection, lost.id, told_apart_by=None)
        await change(Connection, lost.id, judged={"degraded_by": "slow"}, health="degraded")
        slow = (await kept())["connection-acme-sap"]
        await change(Connection, lost.id, judged={"degraded_by": "stale"})
        assert (await kept())["connection-acme-sap"] != slow
        await change(Connection, lost.id, judged={}, health="healthy")

        # Another Prefect has none of the pages: they are made again.
        for artifact in (await running.client.request("POST", "/artifacts/filter", json={})).json():
            await running.client.request("DELETE", f"/artifacts/{artifact['id']}")
        await change(Customer, acme.id, name="Acme Metals")
        assert "🟢 Acme Metals · SAP ECC" in (await kept())["connection-acme-sap"]


async def test_a_title_that_prefect_shows_above_the_page_is_not_said_twice(
    running: Running, settings: Settings
) -> None:
    async with Runtime.open(settings) as rt:
        await keep_pages(rt, running.client)
    for key in ("fleet", "audit", "webhooks"):
        shown = await running.artifact(key)
        headline = shown.partition("\n")[0]
        assert headline
        assert shown.count(headline) == 1


async def test_the_page_of_webhooks_is_there_before_any_run_and_shows_what_people_hear_of(
    running: Running, store: Store, settings: Settings
) -> None:
    """Every message about webhooks leads there, also within the first quarter of an hour."""
    await save_blocks(store, Blocks(apps=[AppConfig()]), now=utcnow())
    async with Runtime.open(settings) as rt:
        await keep_pages(rt, running.client)
        assert "0 processed in a day" in await running.artifact("webhooks")
        async with store.write() as session:
            session.add(
                WebhookEvent(
                    app="default", delivery_key="d1", received_at=utcnow(), body=b"no json",
                    kind="unknown", source="webhook", status="dead", ordering_key="o",
                    processed_at=utcnow(), error="it is no JSON",
                )
            )  # fmt: skip
        await watch_stream(rt, utcnow())
        await keep_pages(rt, running.client)
        page = await running.artifact("webhooks")
        assert "1 dead" in page
        assert "it is no JSON" in page


async def test_a_page_that_nobody_has_looked_for_says_so(
    running: Running, store: Store, settings: Settings
) -> None:
    """No sweep is completed any more: the page is not green by what was so before."""
    now = utcnow()
    well = Connection(
        app="default", makini_key="k2", name="UpKeep", slug="acme-upkeep", provider="UpKeep",
        setup="live", health="healthy", health_since=now, evidence="read",
    )  # fmt: skip
    async with store.write() as session:
        session.add(well)
    with_app = settings.model_copy(update={"makini_client_id": "us"})
    async with Runtime.open(with_app) as rt:
        await beat(store, "receiver:r", "receiver", "here")
        await done(store, "sweep")
        await watch(rt)
        await keep_pages(rt, running.client)
        assert "The one connection is healthy" in await running.artifact("fleet")
        long_ago = now - timedelta(days=2)
        async with store.write() as session:
            await session.execute(update(PartHeartbeat).values(since=long_ago))
            swept = col(PartHeartbeat.kind) == "sweep"
            await session.execute(update(PartHeartbeat).where(swept).values(at=long_ago))
        await watch(rt)
        await keep_pages(rt, running.client)
        page = await running.artifact("fleet")
        assert f"No sweep since {when(long_ago)}. Known then: the one connection is" in page
        await done(store, "sweep")
        await watch(rt)
        await keep_pages(rt, running.client)
        assert "The one connection is healthy" in await running.artifact("fleet")


async def test_a_page_is_written_though_its_lease_was_lost_on_the_way(
    running: Running, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(the_pages, "holding", functools.partial(holding, seconds=6))
    stalled: list[str] = []

    async def stall(request: httpx.Request) -> None:
        """As the page is about to be made, the machine sleeps for longer than leases last."""
        if request.method == "POST" and request.url.path.endswith("/artifacts/") and not stalled:
            stalled.append(request.url.path)
            async with rt.store.write() as session:
                await session.execute(
                    update(Lease)
                    .where(col(Lease.name) == the_pages.LEASE)
                    .values(owner="another", until=utcnow())
                )
            await asyncio.sleep(600)

    async with Runtime.open(settings) as rt:
        running.client._client.event_hooks["request"].append(stall)
        await put_artifact(rt, running.client, "a-page", "so it is", description="")
    assert stalled
    assert "so it is" in await running.artifact("a-page")


async def test_a_part_of_the_page_of_all_connections_that_is_needed_no_more_says_so(
    running: Running, store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had shown as healthy what was disconnected long ago."""
    monkeypatch.setattr(connections_page, "A_PART", 2)
    systems = [
        Connection(
            app="default",
            makini_key=f"k{number}",
            name=f"System {number}",
            slug=f"system-{number}",
            provider="UpKeep",
            setup="live",
            health="healthy",
        )
        for number in range(5)
    ]
    async with store.write() as session:
        session.add_all(systems)

    async def part(number: int) -> str:
        ours = {"artifacts": {"key": {"any_": [f"connections-{number}"]}}}
        answer = await running.client.request("POST", "/artifacts/filter", json=ours)
        [page] = answer.json()
        return as_shown(page)

    async with Runtime.open(settings) as rt:
        await write_all_connections(rt, running.client)
        assert "System 4" in await part(3)
        async with store.write() as session:
            gone = update(Connection).where(col(Connection.slug) != "system-0")
            await session.execute(gone.values(setup="disconnected"))
        await write_all_connections(rt, running.client)
    for number in (2, 3):
        assert "System" not in await part(number)
        assert "No connection is on this page any more" in await part(number)
