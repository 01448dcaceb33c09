"""The start of an implementation: what is refused, and that one is one."""

import asyncio
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlmodel import col

from linekeeper.credits.service import set_bought
from linekeeper.implementation.advance import advance, advance_all
from linekeeper.implementation.answer import GateAnswer, answer, ask
from linekeeper.implementation.scope import PlanError
from linekeeper.implementation.template import SHIPPED
from linekeeper.store.tables import (
    Audit,
    Connection,
    CreditEntry,
    Gate,
    Implementation,
)
from tests.implementation.conftest import Office


async def test_a_start_reserves_credits_opens_the_kickoff_and_starts_its_run(office: Office):
    started = await office.start()
    assert started.new
    assert started.progress.evaluation.having("open") == ("kickoff",)
    [run] = await office.gate_runs()
    assert run.payload["deployment"] == "gate"
    assert run.payload["name"] == "Acme · Kickoff and technical requirements"
    assert run.payload["idempotency_key"] == run.dedupe_key
    assert run.payload["tags"] == ["implementation:acme-sap-ecc", "owner:petra", "waiting:us"]
    [event] = await office.outbox("event")
    assert event.payload["name"] == "linekeeper.implementation.kickoff"
    async with office.store.read() as session:
        assert await session.scalar(select(func.sum(CreditEntry.delta))) == -4


async def test_the_same_customer_and_systems_are_the_same_implementation(office: Office):
    first = await office.start(systems=["SAP ECC", "UpKeep"], complexity="custom")
    second = await office.start(customer=" acme ", systems=["UPKEEP", "SAP  ECC"])
    assert not second.new
    assert second.progress.standing.implementation.id == first.progress.standing.implementation.id
    async with office.store.read() as session:
        assert await session.scalar(select(func.count()).select_from(Implementation)) == 1
    assert len(await office.gate_runs()) == 1
    assert (await office.start(systems=["Maximo"])).new


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"kickoff": date(2027, 2, 26)}, "kickoff"),
        ({"committed": date(2027, 2, 27)}, "committed"),
        ({"systems": []}, "systems"),
        ({"systems": [f"S{n}" for n in range(500)]}, "systems"),
        ({"systems": ["SAP ECC", "sap ecc"]}, "systems"),
        ({"country": "XX"}, "country"),
        ({"owner": " "}, "owner"),
        ({"by": ""}, "by"),
        ({"customer": "\x07"}, "customer"),
        ({"complexity": "heroic"}, "complexity"),
        ({"targets": ["nowhere"]}, "systems"),
        ({"tiers": ["IX"]}, "systems"),
        ({"hosting": "mainframe"}, "hosting"),
    ],
)
async def test_what_cannot_be_is_refused_and_nothing_is_stored(office: Office, changed, field):
    with pytest.raises(PlanError) as refused:
        await office.start(**changed)
    assert refused.value.field == field
    async with office.store.read() as session:
        assert await session.scalar(select(func.count()).select_from(Implementation)) == 0
        assert await session.scalar(select(func.count()).select_from(Audit)) == 0


async def test_a_start_is_told_all_that_is_wrong_at_once(office: Office):
    with pytest.raises(PlanError) as refused:
        await office.start(
            by="",
            systems=["A", "a"],
            kickoff=date(2027, 2, 26),
            hosting="mainframe",
            app="nobody",
            apps=("default",),
        )
    for field in ("by", "systems", "kickoff", "hosting", "app"):
        assert field in str(refused.value), field
    await set_bought(office.store, 1, by="Olaf", now=office.now)
    with pytest.raises(PlanError, match=r"kickoff: .*in the past.*; credits: .*2 credits.*1 short"):
        await office.start(systems=["A", "B"], kickoff=date(2027, 2, 26))


async def test_what_was_agreed_of_a_system_is_what_its_connection_costs(office: Office):
    started = await office.start(
        complexity="enterprise",
        hosting="on-premises",
        tiers=["III"],
        targets=["erp.acme.example:44300"],
    )
    identifier = await office.connects("Acme", "SAP ECC")
    await office.advance(started.progress)
    async with office.store.read() as session:
        connection = await session.get_one(Connection, identifier)
        deltas = await session.scalars(select(col(CreditEntry.delta)).order_by(CreditEntry.id))
        assert list(deltas) == [-8, 8, -8]
    assert (connection.tier, connection.hosting) == ("III", "on-premises")


async def test_a_system_of_which_nobody_says_the_tier_is_charged_as_others_of_its_product(
    office: Office,
):
    """B8: what is reserved before the start is what the connection will take."""
    started = await office.start(
        systems=["SAP ECC Werk 2", "UpKeep", "S/4 of SAP"],
        hostings=["on-premises"],
        tariffs={"S/4": "II", "upkeep": "cloud"},
        complexity="enterprise",
    )
    assert [system.cost for system in started.progress.standing.systems] == [8, 1, 2]
    await set_bought(office.store, 18, by="Olaf", now=office.now)
    with pytest.raises(PlanError, match=r"It needs 8 credits, 7 available"):
        await office.start(customer="Bolt", hosting="on-premises")


async def test_starting_again_while_another_moves_it_on_loses_and_doubles_nothing(office: Office):
    started = await office.start()
    identifier = started.progress.standing.implementation.id
    row = await office.gate(started.progress, "kickoff")
    await ask(office.store, row.id, run_id="run-1")
    given = GateAnswer("done", evidence="minutes", by="Petra")
    ended = await asyncio.gather(
        *(
            answer(office.store, row.id, given, number=0, run_id="run-1", now=office.now)
            for _ in range(4)
        ),
        *(advance(office.store, identifier, now=office.now) for _ in range(3)),
        advance_all(office.store, now=office.now),
        office.start(),
    )
    assert len([one for one in ended[:4] if one.progress is not None]) == 1
    async with office.store.read() as session:
        audited = await session.scalars(
            select(col(Audit.action)).where(col(Audit.action) == "gate.done")
        )
        assert list(audited) == ["gate.done"]
    names = [row.payload["name"] for row in await office.outbox("event")]
    assert len(names) == len({row.dedupe_key for row in await office.outbox("event")})
    assert names.count("linekeeper.implementation.kickoff") == 2  # opened, done


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("needs: [kickoff]", "needs: [kickoff, go-live]", "circle"),
        ("    owner: us\n", "", "owner"),
        ("best: 1, likely: 1, worst: 1}", "best: -1, likely: 1, worst: 1}", "best"),
        ("best: 1, likely: 1, worst: 1}", "best: 3, likely: 1, worst: 1}", "must not get smaller"),
    ],
)
async def test_a_teams_template_that_cannot_be_is_refused_before_anything_is_stored(
    office: Office, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, old: str, new: str, reason: str
):
    shipped = (SHIPPED / "standard.yaml").read_text("utf-8")
    assert old in shipped
    (tmp_path / "standard.yaml").write_text(shipped.replace(old, new, 1), "utf-8")
    monkeypatch.setenv("LINEKEEPER_TEMPLATES", str(tmp_path))
    with pytest.raises(PlanError, match=reason) as refused:
        await office.start()
    assert "standard.yaml" in str(refused.value)
    async with office.store.read() as session:
        assert await session.scalar(select(func.count()).select_from(Gate)) == 0


async def test_an_implementation_keeps_the_gates_it_was_started_with(
    office: Office, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    started = await office.start()
    (tmp_path / "standard.yaml").write_text("not: a template", "utf-8")
    monkeypatch.setenv("LINEKEEPER_TEMPLATES", str(tmp_path))
    await office.says(started.progress, "kickoff")
    again = await office.advance(started.progress)
    assert again.evaluation.having("open") == ("authentication-1",)


async def test_starts_at_the_same_moment_are_one_implementation(office: Office):
    started = await asyncio.gather(*(office.start() for _ in range(4)))
    assert [one.new for one in started].count(True) == 1
    assert len({one.progress.standing.implementation.id for one in started}) == 1
    assert len(await office.gate_runs()) == 1
    async with office.store.read() as session:
        assert await session.scalar(select(func.sum(CreditEntry.delta))) == -4


async def test_systems_of_one_implementation_may_be_in_the_cloud_and_on_premises(office: Office):
    started = await office.start(
        systems=["UpKeep", "SAP ECC"],
        complexity="enterprise",
        hostings=["", "on-premises"],
        targets=["", "sap.acme.example:443"],
    )
    standing = started.progress.standing
    assert [system.cost for system in standing.systems] == [1, 8]  # III, double on premises (H1)
    again = (await office.start(systems=["UpKeep", "SAP ECC"])).progress.standing
    assert again.plan == standing.plan
    assert [again.plan.scope.hosting_of(number) for number in (1, 2)] == ["cloud", "on-premises"]
    with pytest.raises(PlanError, match="a self-hosted Makini is an app of its own"):
        await office.start(systems=["A", "B"], hostings=["cloud", "self-hosted"])


async def test_a_kickoff_today_is_not_yesterday_for_who_sits_west_of_utc(office: Office):
    """A new customer is taken to be in UTC until somebody says where it is."""
    office.now = datetime(2027, 3, 2, 1, tzinfo=UTC)  # Monday, 17:00 in Los Angeles
    started = await office.start(kickoff=date(2027, 3, 1))
    assert started.new
    office.now = datetime(2027, 3, 2, 13, tzinfo=UTC)
    with pytest.raises(PlanError, match="in the past"):
        await office.start(customer="Another", kickoff=date(2027, 3, 1))
