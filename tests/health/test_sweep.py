import asyncio
from dataclasses import astuple
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import select, update
from sqlmodel import col

import sandbox
from linekeeper.clock import utcnow
from linekeeper.incidents.news import find_news, mark_reported
from linekeeper.incidents.operate import begin, mute
from linekeeper.runtime import Runtime
from linekeeper.store.tables import (
    Connection,
    Credential,
    Customer,
    Incident,
    IncidentConnection,
    Outbox,
    Transition,
)
from linekeeper.sweep import batch
from linekeeper.sweep.batch import probe_batch
from linekeeper.sweep.sweep import due, take_list
from tests.adopted import adopt_once


async def sweep(rt: Runtime, *, last_try: bool = True) -> None:
    app = await rt.app("default")
    policy = (await rt.configuration()).policy
    started = utcnow()
    await take_list(rt, app, now=started)
    for ids in (await due(rt, app, policy, now=started)).batches:
        await probe_batch(rt, app, ids, started=started, last_try=last_try)


async def adopt(rt: Runtime, fleet: sandbox.Served) -> None:
    """The first sweep, which finds everything well."""
    key = (astuple(fleet.world.settings), rt.settings.makini_mode)
    await adopt_once(key, rt.store, fleet.world, lambda: sweep(rt))


async def control(fleet: sandbox.Served, path: str, **body) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"{fleet.url}/_control/{path}", json=body)
        assert answer.status_code < 300, answer.text


async def connections(rt: Runtime) -> list[Connection]:
    async with rt.store.read() as session:
        return list(await session.scalars(select(Connection).order_by(col(Connection.id))))


async def incidents(rt: Runtime) -> list[Incident]:
    async with rt.store.read() as session:
        return list(await session.scalars(select(Incident).order_by(col(Incident.id))))


async def test_a_new_fleet_is_adopted_given_tokens_and_found_well(rt: Runtime) -> None:
    await sweep(rt)
    found = await connections(rt)
    assert len(found) == 12
    assert {connection.health for connection in found} == {"healthy"}
    assert {connection.setup for connection in found} == {"live"}
    async with rt.store.read() as session:
        customers = list(await session.scalars(select(Customer)))
        assert len(list(await session.scalars(select(Credential)))) == 12
    assert {connection.customer_id for connection in found} == {
        customer.id for customer in customers
    }
    before = [connection.model_dump(exclude={"last_checked_at"}) for connection in found]
    assert await incidents(rt) == []
    await sweep(rt)
    after = await connections(rt)
    unchanged = {"id", "name", "customer_id", "setup", "health", "health_since", "slug"}
    assert [{k: row[k] for k in unchanged} for row in before] == [
        {k: getattr(connection, k) for k in unchanged} for connection in after
    ]


async def test_observe_judges_by_the_list_and_writes_nothing_at_makini(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    observing = rt.settings.model_copy(update={"makini_mode": "observe"})
    async with Runtime.open(observing) as watcher:
        await sweep(watcher)
        found = await connections(watcher)
        assert {connection.health for connection in found} == {"healthy"}
        async with watcher.store.read() as session:
            assert list(await session.scalars(select(Credential))) == []
    async with httpx.AsyncClient() as client:
        calls = (await client.get(f"{fleet.url}/_control/calls")).json()
    assert calls["writes"] == 0, calls


async def test_once_managed_the_next_sweep_asks_whom_only_the_list_spoke_of(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    """As the texts of the mode and of `doctor` say: the next sweep mints their tokens."""
    spread = rt.settings.model_copy(update={"probe_minutes": 10})
    async with Runtime.open(spread.model_copy(update={"makini_mode": "observe"})) as watcher:
        await sweep(watcher)
        await sweep(watcher)
    async with Runtime.open(spread) as manager:
        await sweep(manager)
    assert {connection.evidence for connection in await connections(rt)} == {"probed"}
    async with rt.store.read() as session:
        assert len(list(await session.scalars(select(Credential)))) == 12


async def test_whom_makini_mints_no_token_is_not_asked_for_in_every_sweep(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    fleet.world.settings.mint_shape = "refused"
    spread = rt.settings.model_copy(update={"probe_minutes": 10})
    async with Runtime.open(spread) as manager:
        await sweep(manager)
        app, policy = await manager.app("default"), (await manager.configuration()).policy
        assert (await due(manager, app, policy, now=utcnow())).ids == []


async def test_changed_credentials_make_one_incident_that_closes_by_itself(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    await adopt(rt, fleet)
    [victim, *_] = await connections(rt)
    await control(fleet, f"connections/{victim.makini_key}/change-credentials")
    await sweep(rt)
    await sweep(rt)
    [incident] = await incidents(rt)
    assert (incident.kind, incident.status) == ("reauthorization_required", "open")
    async with rt.store.read() as session:
        rows = list(
            await session.scalars(select(Transition).where(Transition.connection_id == victim.id))
        )
        said = select(Outbox).where(Outbox.channel == "slack").order_by(Outbox.seq)
        outbox = list(await session.scalars(said))
    assert [(row.before, row.after) for row in rows if row.axis == "health"] == [
        ("unknown", "healthy"),
        ("healthy", "reauthorization_required"),
    ]
    assert [row.payload["do"] for row in outbox] == ["show", "timeline"]
    await control(fleet, f"connections/{victim.makini_key}/restore-credentials")
    await sweep(rt)
    [incident] = await incidents(rt)
    assert incident.status == "resolved"


async def test_an_expired_token_is_renewed_and_nobody_hears_of_it(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    await adopt(rt, fleet)
    for connection in await connections(rt):
        await control(fleet, f"connections/{connection.makini_key}/expire-token")
    await sweep(rt)
    assert {one.health for one in await connections(rt)} == {"healthy"}
    assert await incidents(rt) == []


async def test_a_system_that_is_down_is_unreachable_after_three_sweeps(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    await adopt(rt, fleet)
    [victim, *_] = await connections(rt)
    await control(fleet, f"connections/{victim.makini_key}/go-offline")
    for expected in ("healthy", "healthy", "unreachable"):
        await sweep(rt)
        [victim, *_] = await connections(rt)
        assert victim.health == expected
    await control(fleet, f"connections/{victim.makini_key}/come-online")
    await sweep(rt)
    [victim, *_] = await connections(rt)
    assert victim.health == "healthy"


async def test_a_miss_is_recorded_only_on_the_last_try(rt: Runtime, fleet: sandbox.Served) -> None:
    await adopt(rt, fleet)
    [victim, *_] = await connections(rt)
    await control(fleet, f"connections/{victim.makini_key}/go-offline")
    app = await rt.app("default")
    ids = [connection.id for connection in await connections(rt)]
    started = utcnow()
    first = await probe_batch(rt, app, ids, started=started, last_try=False)
    assert (first.answered, first.unanswered, first.missed) == (11, 1, 0)
    again = await probe_batch(rt, app, ids, started=started, last_try=True)
    assert (again.answered, again.unanswered, again.missed) == (0, 0, 1)


async def test_members_not_probed_for_a_long_pause_are_the_apps_trouble_not_theirs(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    app = (await rt.app("default")).model_copy(update={"per_minute": 600})
    await take_list(rt, app, now=utcnow())
    before = [
        (connection.health, connection.last_checked_at) for connection in await connections(rt)
    ]
    await rt.budget.penalise(app.name, utcnow() + timedelta(minutes=40))
    ids = [connection.id for connection in await connections(rt)]
    done = await probe_batch(rt, app, ids, started=utcnow(), last_try=True)
    assert (done.answered, done.missed, done.skipped) == (0, 0, 12)
    assert "a pause that is not over" in (done.trouble or "")
    assert [
        (connection.health, connection.last_checked_at) for connection in await connections(rt)
    ] == before


async def test_one_that_may_not_be_called_for_an_hour_is_skipped_and_the_others_are_probed(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    app = (await rt.app("default")).model_copy(update={"per_minute": 6_000})
    await take_list(rt, app, now=utcnow())
    [victim, *_] = await connections(rt)
    until = utcnow() + timedelta(hours=1)
    await rt.budget.penalise(app.name, until, connection=victim.makini_key)
    ids = [connection.id for connection in await connections(rt)]
    done = await probe_batch(rt, app, ids, started=utcnow(), last_try=False)
    assert (done.answered, done.skipped, done.unanswered, done.trouble) == (11, 1, 0, None)


async def test_a_provider_that_fails_is_one_incident(rt: Runtime, fleet: sandbox.Served) -> None:
    await adopt(rt, fleet)
    async with rt.store.write() as session:
        await session.execute(update(Connection).values(provider="SAP ECC"))
    victims = (await connections(rt))[:7]
    for connection in victims[:2]:
        await control(fleet, f"connections/{connection.makini_key}/change-credentials")
    await probe_all(rt)
    assert len(await incidents(rt)) == 2
    for connection in victims[2:]:
        await control(fleet, f"connections/{connection.makini_key}/change-credentials")
    await probe_all(rt)
    found = await incidents(rt)
    assert [incident.scope for incident in found if incident.status == "open"] == ["provider"]
    assert sum(incident.status == "resolved" for incident in found) == 1
    async with rt.store.read() as session:
        members = list(
            await session.scalars(
                select(IncidentConnection).where(col(IncidentConnection.left_at).is_(None))
            )
        )
    assert {member.connection_id for member in members} == {victim.id for victim in victims}
    for connection in victims:
        await control(fleet, f"connections/{connection.makini_key}/restore-credentials")
    await probe_all(rt)
    assert {incident.status for incident in await incidents(rt)} == {"resolved"}


async def probe_all(rt: Runtime) -> None:
    app = await rt.app("default")
    ids = [connection.id for connection in await connections(rt)]
    await probe_batch(rt, app, ids, started=utcnow(), last_try=True)


async def test_red_means_new(rt: Runtime, fleet: sandbox.Served) -> None:
    await adopt(rt, fleet)
    policy = (await rt.configuration()).policy
    [victim, *_] = await connections(rt)
    await control(fleet, f"connections/{victim.makini_key}/change-credentials")
    await sweep(rt)
    now = utcnow()
    findings = await find_news(rt.store, policy=policy, now=now)
    assert [news.reason for news in findings.news] == ["new"]
    assert findings.summary == "1 new problem"
    assert "sync_status fail" in findings.news[0].sentence
    await mark_reported(rt.store, findings.news, now=now)
    assert (await find_news(rt.store, policy=policy, now=now)).summary == "1 known"
    later = now + timedelta(hours=4, minutes=1)
    assert (await find_news(rt.store, policy=policy, now=later)).summary == "1 unacknowledged"
    async with rt.store.write() as session:
        await session.execute(update(Incident).values(status="acknowledged"))
    assert (await find_news(rt.store, policy=policy, now=later)).summary == "1 known"


@pytest.mark.parametrize("scope", ["connection", "customer", "provider", "all", "muted"])
async def test_planned_work_is_no_red_run_and_what_outlasts_it_is(
    rt: Runtime, fleet: sandbox.Served, scope: Any
) -> None:
    await adopt(rt, fleet)
    policy = (await rt.configuration()).policy
    [victim, *_] = await connections(rt)
    now = utcnow()
    names = {"connection": victim.makini_key, "provider": victim.provider}
    async with rt.store.read() as session:
        names["customer"] = await session.scalar(
            select(Customer.name).where(col(Customer.id) == victim.customer_id)
        )
    if scope != "muted":
        await begin(
            rt.store,
            scope,
            names.get(scope, ""),
            kind="maintenance",
            starts_at=now,
            lasts=timedelta(hours=1),
            by="Petra",
            reason="",
            now=now,
        )
    await control(fleet, f"connections/{victim.makini_key}/change-credentials")
    await sweep(rt)
    if scope == "muted":
        [incident] = await incidents(rt)
        await mute(rt.store, incident.id, 1, by="Petra", now=now)
    findings = await find_news(rt.store, policy=policy, now=utcnow())
    assert (list(findings.news), findings.summary) == ([], "1 not announced")
    await mark_reported(rt.store, findings.news, now=utcnow())
    later = utcnow() + timedelta(hours=1, minutes=1)
    assert (await find_news(rt.store, policy=policy, now=later)).summary == "1 new problem"


async def test_one_that_hangs_does_not_keep_what_the_others_said(
    rt: Runtime, fleet: sandbox.Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    await adopt(rt, fleet)
    [victim, *_] = await connections(rt)
    await control(fleet, f"connections/{victim.makini_key}/slow", seconds=60)
    monkeypatch.setattr(batch, "WRITE_SECONDS", 0.1)
    started = utcnow()
    again = asyncio.create_task(sweep(rt))
    waiting = {"all"}
    while len(waiting) > 1 or "all" in waiting:
        assert not again.done()
        await asyncio.sleep(0.1)
        found = await connections(rt)
        waiting = {
            connection.id
            for connection in found
            if (connection.last_checked_at or started) <= started
        }
    assert waiting == {victim.id}
    again.cancel()
    with pytest.raises(asyncio.CancelledError):
        await again
