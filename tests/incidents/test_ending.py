"""Incidents that used to stay open for good, and members that an incident lacked."""

from datetime import datetime, timedelta

import pytest
from sqlalchemy import delete, select, update
from sqlmodel import col

import sandbox
from linekeeper.clock import utcnow
from linekeeper.config import AppConfig
from linekeeper.incidents.findings import open_incident, resolve_incident
from linekeeper.incidents.lifecycle import Opening, find_open
from linekeeper.notify.view import load_views
from linekeeper.orchestrator import Blocks
from linekeeper.reconcile.measure import measure
from linekeeper.runtime import Runtime
from linekeeper.store.configuration import save_blocks
from linekeeper.store.tables import (
    AppSetting,
    Connection,
    Drift,
    Incident,
    IncidentConnection,
    IncidentEntry,
)
from linekeeper.sweep.app import close_removed
from tests.health.conftest import fleet, rt
from tests.health.test_sweep import connections, control, incidents, sweep

__all__ = ["fleet", "rt"]  # fixtures

SILENT = {"missed": 9, "webhooks_seen": 0}
HEARD = {"missed": 0, "webhooks_seen": 30}


async def counted(rt: Runtime, *silent: Connection, now: datetime) -> None:
    """Of the whole fleet only `silent` get no webhooks; measured anew."""
    async with rt.store.write() as session:
        await session.execute(delete(Drift))
        ids = {one.id for one in silent}
        for connection in await session.scalars(select(Connection)):
            counts = SILENT if connection.id in ids else HEARD
            row = Drift(connection_id=connection.id, entity="eam/assets", run_at=now, **counts)
            session.add(row)
    await measure(rt, now=now)


async def open_causes(rt: Runtime) -> list[str]:
    return sorted(
        incident.cause for incident in await incidents(rt) if incident.resolved_at is None
    )


async def members(rt: Runtime, cause: str) -> set[str]:
    async with rt.store.read() as session:
        rows = await session.scalars(
            select(col(IncidentConnection.connection_id))
            .join(Incident, col(Incident.id) == col(IncidentConnection.incident_id))
            .where(col(Incident.cause) == cause, col(IncidentConnection.left_at).is_(None))
        )
        return set(rows)


async def test_webhooks_of_one_that_come_in_while_the_apps_incident_is_open(
    rt: Runtime,
) -> None:
    await sweep(rt)
    fleet = await connections(rt)
    now = utcnow()
    own, app = f"connection:{fleet[0].id}:webhooks", "app:default:webhooks"
    await counted(rt, fleet[0], now=now)
    assert await open_causes(rt) == [own]
    await counted(rt, *fleet[:8], now=now)
    assert await open_causes(rt) == [app]  # the wider one has taken it in
    assert await members(rt, app) == {connection.id for connection in fleet[:8]}
    await counted(rt, *fleet[1:4], now=now)
    assert await open_causes(rt) == [app]
    assert await members(rt, app) == {connection.id for connection in fleet[1:4]}
    await counted(rt, now=now)
    assert await open_causes(rt) == []
    await counted(rt, fleet[0], now=now)
    assert await open_causes(rt) == [own]


async def test_one_connection_is_a_member_of_several_incidents_of_one_topic(rt: Runtime) -> None:
    await sweep(rt)
    [victim, *_] = await connections(rt)
    causes = [f"connection:{victim.id}:deletions:{entity}" for entity in ("assets", "sites")]
    opened = []
    async with rt.store.write() as session:
        for cause in causes:
            opening = Opening(
                topic="deletions",
                kind="deletions_held",
                scope="connection",
                cause=cause,
                app="default",
                title=f"{victim.name} · deletions held back",
                summary="Too many to believe",
                members={victim.id: "deletions_held"},
            )
            await open_incident(rt.store, session, opening, now=utcnow())
            identifier = await find_open(session, cause)
            assert identifier is not None
            opened.append(identifier)
    views = await load_views(rt.store, opened)
    assert [
        [member_view.connection_id for member_view in views[each].members] for each in opened
    ] == [
        [victim.id],
        [victim.id],
    ]
    async with rt.store.write() as session:
        await resolve_incident(rt.store, session, causes[0], "Decided", now=utcnow())
    view = (await load_views(rt.store, opened))[opened[0]]
    assert (view.resolved_at is not None, view.merged_into) == (True, None)


async def swept_away(rt: Runtime) -> list[str]:
    """What a new run closes: it reads the settings anew."""
    async with Runtime.open(rt.settings) as run:
        return await close_removed(run, now=utcnow())


@pytest.mark.parametrize("unreadable", [False, True])
async def test_incidents_of_an_app_taken_out_of_the_settings_end(
    rt: Runtime, fleet: sandbox.Served, unreadable: bool
) -> None:
    app = await rt.app("default")
    other = app.model_copy(update={"name": "other"})

    async def configured(*apps: AppConfig) -> None:
        await save_blocks(rt.store, Blocks(apps=list(apps)), now=utcnow())

    await configured(app, other)
    await sweep(rt)
    [victim, *_] = await connections(rt)
    await control(fleet, f"connections/{victim.makini_key}/change-credentials")
    await sweep(rt)
    async with rt.store.write() as session:
        session.add(
            Incident(
                topic="list",
                kind="list_failed",
                scope="app",
                cause="app:default:list",
                app="default",
                title="app default · connection list",
            )
        )
    assert len(await open_causes(rt)) == 2
    assert await swept_away(rt) == []
    if unreadable:
        async with rt.store.write() as session:
            row = await session.get_one(AppSetting, "block:app:default")
            row.value = rt.store.cipher.encrypt("{}")
        assert await swept_away(rt) == []
        return
    await configured(other)
    assert await swept_away(rt) == ["default"]
    assert await open_causes(rt) == []
    assert await swept_away(rt) == []
    await configured(app, other)
    await swept_away(rt)
    assert await open_causes(rt) == [f"connection:{victim.id}:health"]


@pytest.mark.parametrize("silent", [1, 8])
async def test_a_quiet_week_without_any_webhook_ends_nothing_and_the_first_webhook_does(
    rt: Runtime, silent: int
) -> None:
    await sweep(rt)
    fleet = await connections(rt)
    now = utcnow()
    await counted(rt, *fleet[:silent], now=now)
    [cause] = await open_causes(rt)
    async with rt.store.write() as session:
        await session.execute(delete(Drift))  # nothing changes for more than a week
    await measure(rt, now=now + timedelta(days=8))
    assert await open_causes(rt) == [cause]
    async with rt.store.write() as session:
        await session.execute(update(Connection).values(last_webhook_at=now + timedelta(days=9)))
    await measure(rt, now=now + timedelta(days=9))
    assert await open_causes(rt) == []
    [incident] = [one for one in await incidents(rt) if one.cause == cause]
    async with rt.store.read() as session:
        said = list(
            await session.scalars(
                select(col(IncidentEntry.text)).where(col(IncidentEntry.incident_id) == incident.id)
            )
        )
    assert any("Webhooks come in" in text for text in said)


async def test_of_one_that_is_disconnected_nobody_says_that_its_webhooks_come_in(
    rt: Runtime,
) -> None:
    await sweep(rt)
    fleet = await connections(rt)
    await counted(rt, *fleet[:8], now=utcnow())
    async with rt.store.write() as session:
        await session.execute(update(Connection).values(setup="disconnected"))
    await measure(rt, now=utcnow())
    assert await open_causes(rt) == []
    async with rt.store.read() as session:
        said = list(await session.scalars(select(col(IncidentEntry.text))))
    assert not any("Webhooks come in" in text for text in said)
