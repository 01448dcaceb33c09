"""What a sweep is red for, where an incident begins again or several turn out to be one."""

from datetime import timedelta

import pytest
from sqlalchemy import update

import sandbox
from linekeeper.clock import utcnow
from linekeeper.incidents.conclude import conclude
from linekeeper.incidents.news import Findings, find_news, mark_reported
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Connection
from tests.health.test_sweep import adopt, connections, control, incidents, probe_all


async def reported(rt: Runtime) -> Findings:
    """What a sweep finds now, and is then red for."""
    findings = await find_news(rt.store, policy=(await rt.configuration()).policy, now=utcnow())
    await mark_reported(rt.store, findings.news, now=utcnow())
    return findings


async def change(fleet: sandbox.Served, what: str, *victims: Connection) -> None:
    for connection in victims:
        await control(fleet, f"connections/{connection.makini_key}/{what}")


async def test_trouble_that_begins_again_within_the_hour_is_new(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    await adopt(rt, fleet)
    [victim, *_] = await connections(rt)
    for lost in (1, 2):
        await change(fleet, "change-credentials", victim)
        await probe_all(rt)
        assert (await reported(rt)).summary == "1 new problem", lost
        assert (await reported(rt)).summary == "1 known", lost
        await change(fleet, "restore-credentials", victim)
        await probe_all(rt)
        assert (await reported(rt)).summary == "all healthy", lost
    assert [incident.round for incident in await incidents(rt)] == [1]


async def test_a_system_that_flaps_is_new_once(rt: Runtime, fleet: sandbox.Served) -> None:
    await adopt(rt, fleet)
    [victim, *_] = await connections(rt)
    for summary in ("1 new problem", "1 known"):
        await change(fleet, "go-offline", victim)
        for _ in range(3):
            await probe_all(rt)
        assert (await reported(rt)).summary == summary
        await change(fleet, "come-online", victim)
        for _ in range(3):
            await probe_all(rt)
        assert (await reported(rt)).summary == "all healthy"
    assert [incident.round for incident in await incidents(rt)] == [1]


async def test_incidents_that_turn_out_to_be_one_are_no_news(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    await adopt(rt, fleet)
    async with rt.store.write() as session:
        await session.execute(update(Connection).values(provider="SAP ECC"))
    victims = (await connections(rt))[:6]
    for number, victim in enumerate(victims):
        await change(fleet, "change-credentials", victim)
        await probe_all(rt)
        findings = await reported(rt)
        assert findings.summary == "1 new problem" + (f", {number} known" if number else "")
        assert [news.connection_id for news in findings.news] == [victim.id]
    scopes = [incident.scope for incident in await incidents(rt) if incident.status == "open"]
    assert scopes == ["provider"]


async def test_what_is_degraded_is_red_with_its_cause(rt: Runtime, fleet: sandbox.Served) -> None:
    await adopt(rt, fleet)
    [victim, *_] = await connections(rt)
    await change(fleet, "fail-sync", victim)
    await probe_all(rt)
    [news] = (await reported(rt)).news
    assert ": Degraded since " in news.sentence
    assert "Makini reports that its sync fails" in news.sentence


@pytest.mark.soak
async def test_an_outage_that_flaps_is_new_once_whatever_the_size_of_the_fleet(
    rt: Runtime,
) -> None:
    """Of more than ten thousand who failed again, those after the ten thousandth were news."""
    then = utcnow() - timedelta(hours=1)
    fleet = [
        Connection(
            app="default", makini_key=f"k{n}", name=f"c{n}", slug=f"c{n}", provider="SAP ECC",
            setup="live", health="unreachable", health_since=then,
        )
        for n in range(10_050)
    ]  # fmt: skip
    async with rt.store.write() as session:
        session.add_all(fleet)
    policy = (await rt.configuration()).policy
    for health, summary in (
        ("unreachable", "10050 new problems"),
        ("healthy", "all healthy"),
        ("unreachable", "10050 known"),
    ):
        async with rt.store.write() as session:
            await session.execute(update(Connection).values(health=health, health_since=utcnow()))
            await conclude(rt.store, session, policy=policy, now=utcnow())
        findings = await reported(rt)
        assert findings.summary == summary, [news.sentence for news in findings.news[:3]]
