"""What a finder finds again within the hour is the same incident and message, opened again."""

import asyncio
from datetime import datetime, timedelta

import pytest
from sqlalchemy import select, text
from sqlmodel import col

from linekeeper.config import AppConfig, HealthPolicy
from linekeeper.incidents.findings import Finding, apply_findings
from linekeeper.incidents.lifecycle import perform
from linekeeper.incidents.news import find_news, mark_reported
from linekeeper.makini import ErrorKind, MakiniError
from linekeeper.orchestrator import Blocks
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.configuration import save_blocks
from linekeeper.store.tables import Incident, IncidentConnection, IncidentEntry
from linekeeper.sweep.app import list_failed, list_worked
from tests.notify.conftest import Desk, desk

__all__ = ["desk"]  # a fixture
APP = AppConfig(name="default", api_url="https://makini.example")
REFUSED = MakiniError(ErrorKind.unavailable, "HTTP 503", app="default")


async def incidents(store: Store) -> list[Incident]:
    async with store.read() as session:
        return list(await session.scalars(select(Incident).order_by(col(Incident.opened_at))))


async def fails_twice(store: Store, *, after: timedelta, began: datetime) -> list[Incident]:
    """The list fails for ten minutes, works, and fails again."""
    await list_failed(store, APP, REFUSED, now=began)
    over = began + timedelta(minutes=10)
    await list_worked(store, APP, now=over)
    await list_failed(store, APP, REFUSED, now=over + after)
    return await incidents(store)


async def test_a_list_that_fails_again_within_the_hour_goes_on_in_its_message(desk: Desk) -> None:
    began = desk.now()
    policy = HealthPolicy()
    await list_failed(desk.store, APP, REFUSED, now=began)
    await desk.deliver()
    await mark_reported(
        desk.store, (await find_news(desk.store, policy=policy, now=began)).news, now=began
    )
    desk.ahead = timedelta(minutes=10)
    await list_worked(desk.store, APP, now=desk.now())
    await desk.deliver()
    desk.ahead = timedelta(minutes=69)
    again = desk.now()
    await list_failed(desk.store, APP, REFUSED, now=again)
    [incident] = await incidents(desk.store)
    assert (incident.status, incident.round, incident.resolved_at) == ("open", 1, None)
    assert incident.since == again
    assert incident.opened_at == began
    [news] = (await find_news(desk.store, policy=policy, now=again)).news
    assert news.reason == "new", "a run is red for it as the first time"
    desk.ahead = timedelta(minutes=75)
    await desk.deliver()
    [message] = desk.messages()
    assert ":red_circle:" in message["text"]
    assert "first opened" in message["text"]
    assert sum("Reopened" in reply["text"] for reply in message["replies"]) == 1
    async with desk.store.read() as session:
        entries = await session.scalars(select(IncidentEntry.kind).order_by(IncidentEntry.at))
        assert list(entries) == ["opened", "resolved", "reopened"]


async def test_one_that_comes_an_hour_later_is_another_incident(store: Store) -> None:
    later = timedelta(minutes=61)
    first, second = await fails_twice(store, after=later, began=datetime.fromisoformat(BEGAN))
    assert (first.status, second.status) == ("resolved", "open")


BEGAN = "2026-11-02T08:00:00+00:00"


@pytest.mark.parametrize(("minutes", "count"), [(0.0, 2), (4.0, 2), (6.0, 1)])
async def test_the_hour_is_the_health_policys(store: Store, minutes: float, count: int) -> None:
    policy = HealthPolicy(reopen_minutes=minutes)
    began = datetime.fromisoformat(BEGAN)
    await save_blocks(store, Blocks(policy=policy), now=began)
    assert len(await fails_twice(store, after=timedelta(minutes=5), began=began)) == count


async def test_a_finding_that_is_another_trouble_by_now_is_another_incident(store: Store) -> None:
    began = datetime.fromisoformat(BEGAN)

    async def found(*kinds: str, minutes: int) -> list[Incident]:
        findings = [
            Finding(kind, "parts:consumer", "", f"the consumer: {kind}", f"It is {kind}.")
            for kind in kinds
        ]
        async with store.write() as session:
            now = began + timedelta(minutes=minutes)
            await apply_findings(store, session, "parts", findings, now=now)
        return await incidents(store)

    assert len(await found("part_silent", minutes=0)) == 1
    await found(minutes=1)
    [one] = await found("part_silent", minutes=2)
    assert (one.round, one.summary) == (1, "It is part_silent.")
    await found(minutes=3)
    assert len(await found("pool_without_worker", minutes=4)) == 2


async def test_members_of_the_earlier_round_are_members_only_if_they_are_found_again(
    desk: Desk,
) -> None:
    await desk.open(others=1)
    async with desk.store.read() as session:
        first, second = await session.scalars(select(IncidentConnection.connection_id))
    began = desk.now()

    async def found(*members: str, minutes: int) -> None:
        finding = Finding(
            "webhooks_unconfigured",
            "app:default:webhooks",
            "default",
            "app",
            "None.",
            members=members,
        )
        async with desk.store.write() as session:
            await apply_findings(
                desk.store,
                session,
                "webhooks",
                [finding] if members else [],
                now=began + timedelta(minutes=minutes),
            )

    await found(first, second, minutes=0)
    await found(minutes=1)
    await found(second, minutes=2)
    async with desk.store.read() as session:
        members = await session.scalars(
            select(IncidentConnection.connection_id)
            .join(Incident, col(Incident.id) == col(IncidentConnection.incident_id))
            .where(Incident.topic == "webhooks", col(IncidentConnection.left_at).is_(None))
        )
        assert list(members) == [second]


async def test_two_processes_that_find_it_again_at_once_reopen_it_once(settings: Settings) -> None:
    """The second waits for the first, and then it is open already."""
    began = datetime.fromisoformat(BEGAN)
    async with Store.open(settings) as store, Store.open(settings) as other:
        await list_failed(store, APP, REFUSED, now=began)
        await list_worked(store, APP, now=began + timedelta(minutes=10))
        again = began + timedelta(minutes=20)
        async with store.write() as session:
            [incident] = await session.scalars(select(Incident))
            assert await perform(session, incident.id, "reopen", now=again)
            second = asyncio.create_task(list_failed(other, APP, REFUSED, now=again))
            await until_blocked(store)
        await second
        [incident] = await incidents(store)
        assert (incident.status, incident.round) == ("open", 1)
        async with store.read() as session:
            kinds = await session.scalars(select(IncidentEntry.kind).order_by(IncidentEntry.at))
            assert list(kinds) == ["opened", "resolved"], "who reopened it says so"


async def until_blocked(store: Store) -> None:
    """Wait until another transaction waits for a row on PostgreSQL; SQLite has one writer."""
    blocked = text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    while not store.is_sqlite:
        async with store.read() as session:
            if await session.scalar(blocked):
                return
