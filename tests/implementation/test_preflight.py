"""Preflight as evidence: what closes a gate, what keeps it shut, what turns later."""

import asyncio
import json
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlmodel import col
from typer.testing import CliRunner

from linekeeper.cli import app
from linekeeper.implementation.advance import look
from linekeeper.implementation.change import Update, change
from linekeeper.implementation.run import start_message
from linekeeper.implementation.watch import advance_targets, take_report, watch
from linekeeper.preflight.evidence import conclude_drift, keep, tunnelled
from linekeeper.preflight.intake import ReportError
from linekeeper.preflight.order import take_order
from linekeeper.preflight.run import PreflightVerdicts, as_json, preflight
from linekeeper.settings import Settings
from linekeeper.store.tables import Audit, Incident, PreflightReport
from tests.implementation.conftest import Office
from tests.preflight.door import Door, door

__all__ = ["door"]

PATIENT = 30.0
"""Seconds for an answer of the door, beside whatever else this machine does."""


async def checked(office: Office, door: Door, vantage: str = "inside") -> PreflightVerdicts:
    return await preflight(take_order([door.target], vantage, PATIENT), lambda: office.now)


async def on_premises(office: Office, door: Door):
    """Started, with the network prepared: only preflight is still to come."""
    started = await office.start(
        systems=["SAP ECC"],
        complexity="enterprise",
        hosting="on-premises",
        targets=[door.target],
        committed=office.now.date() + timedelta(weeks=9),
    )
    for gate in ("kickoff", "security-review", "network"):
        office.later(days=1)
        await office.says(started.progress, gate)
    return started.progress


async def test_a_closed_port_keeps_the_gate_shut_and_opening_it_moves_the_forecast(
    office: Office, door: Door
):
    progress = await on_premises(office, door)
    office.later(days=10)
    await office.says(progress, "design")  # from now on only the door is waited for
    found = await checked(office, door)
    await keep(office.store, found, source="flow", by="preflight", now=office.now)
    [shut] = await advance_targets(office.store, [door.target], now=office.now)
    assert shut.lacks["preflight"].text.startswith(f"{door.target} from inside: ")
    assert "authentication-1" in shut.evaluation.having("pending")

    door.open()
    office.later(minutes=5)
    found = await checked(office, door)
    await keep(office.store, found, source="flow", by="preflight", now=office.now)
    [moved] = await advance_targets(office.store, [door.target], now=office.now)
    door.close()
    assert "preflight" in moved.evaluation.having("done")
    assert "authentication-1" in moved.evaluation.having("open")
    assert moved.outlook.forecast.p50 < shut.outlook.forecast.p50
    again = await look(office.store, progress.standing.implementation.id, now=office.now)
    assert again.outlook.p50 == moved.outlook.p50


async def test_a_port_open_to_the_world_keeps_the_gate_shut(office: Office, door: Door):
    progress = await on_premises(office, door)
    door.open()
    for vantage in ("inside", "outside"):
        found = await checked(office, door, vantage)
        await keep(office.store, found, source="import", by="their IT", now=office.now)
    door.close()
    moved = await office.advance(progress)
    assert "Open from outside" in moved.lacks["preflight"].text


async def test_what_was_proven_and_turns_is_one_incident_until_it_holds_again(
    office: Office, door: Door
):
    """B7: preflight is repeated, and a drift is an incident."""
    await on_premises(office, door)
    said = []
    for is_open in (False, True, False, False, True):
        if is_open:
            door.open()
        found = await checked(office, door)
        await keep(office.store, found, source="flow", by="preflight", now=office.now)
        changes = await conclude_drift(office.store, [found], now=office.now)
        said.append([change.what for change in changes])
        if is_open:
            door.close()
        office.later(days=1)
    assert said == [[], [], ["opened"], [], ["resolved"]]
    async with office.store.read() as session:
        [incident] = await session.scalars(select(Incident))
    assert incident.kind == "preflight_failed"
    assert incident.title == f"Acme · SAP ECC · {door.target} from inside"


async def test_an_incident_of_a_target_that_moved_is_over_at_once(office: Office, door: Door):
    await on_premises(office, door)
    for is_open in (True, False):
        if is_open:
            door.open()
        found = await checked(office, door)
        await keep(office.store, found, source="flow", by="preflight", now=office.now)
        changes = await conclude_drift(office.store, [found], now=office.now)
        if is_open:
            door.close()
        office.later(days=1)
    assert [opened.what for opened in changes] == ["opened"]
    moved = Update("Acme", "target", by="Olaf", gate="SAP ECC", to="new.acme.example:443")
    await change(office.store, moved, now=office.now)
    async with office.store.read() as session:
        assert list(await session.scalars(select(Incident.status))) == ["resolved"]
    assert await conclude_drift(office.store, [], now=office.now) == []


@pytest.mark.parametrize("vpn", [False, True])
async def test_h2_a_vpn_is_a_step_of_its_own_and_said_wherever_it_is_waited_for(
    office: Office, door: Door, vpn: bool
):
    started = await office.start(
        systems=["SAP ECC", "Maximo"],
        complexity="enterprise",
        hosting="on-premises",
        targets=[door.target, "maximo.acme.example:9443"],
        vpns=[vpn],
    )
    standing = started.progress.standing
    assert [system.vpn for system in standing.systems] == [vpn, False]
    assert ("vpn" in standing.gates) is vpn
    assert [
        wanted["vpn"] for wanted in start_message(standing).payload["parameters"]["systems"]
    ] == [
        vpn,
        False,
    ]
    for gate in ("kickoff", "security-review", *(["vpn"] if vpn else []), "network"):
        office.later(days=1)
        await office.says(started.progress, gate)
    moved = await office.advance(started.progress)
    assert ("nor through the VPN tunnel" in moved.lacks["preflight"].text) is vpn
    async with office.store.read() as session:
        through = await tunnelled(session, [door.target, "maximo.acme.example:9443"])
    assert [place.label for place in through] == (["Acme · SAP ECC"] if vpn else [])


async def test_the_file_of_a_customers_it_counts_once_and_moves_the_implementation(
    office: Office, door: Door
):
    await on_premises(office, door)
    door.open()
    found = await checked(office, door)
    door.close()
    new, [moved] = await take_report(office.store, found, by="Ann", now=office.now)
    assert new == 1
    assert "preflight" in moved.evaluation.having("done")
    runs = len(await office.outbox("run"))
    assert (await take_report(office.store, found, by="Ann", now=office.now))[0] == 0
    assert len(await office.outbox("run")) == runs
    async with office.store.read() as session:
        assert len(list(await session.scalars(select(PreflightReport)))) == 1
        audits = await session.scalars(
            select(Audit.by).where(col(Audit.action) == "preflight.import")
        )
        assert list(audits) == ["Ann"]
    assert await watch(office.store, now=office.now) is False


async def test_a_report_from_the_future_is_refused(office: Office, door: Door):
    await on_premises(office, door)
    found = await checked(office, door)
    with pytest.raises(ReportError, match="is in the future"):
        await keep(
            office.store, found, source="import", by="Ann", now=office.now - timedelta(days=1)
        )


async def test_the_command_imports_a_file_and_says_what_is_new(
    office: Office,
    door: Door,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
):
    key = settings.encryption_keys[0].get_secret_value()
    monkeypatch.setenv("LINEKEEPER_HOME", str(settings.home))
    monkeypatch.setenv("LINEKEEPER_DATABASE_URL", settings.resolved_database_url)
    monkeypatch.setenv("LINEKEEPER_ENCRYPTION_KEYS", key)
    found = await preflight(take_order([door.target], "inside", 1.0))
    file = tmp_path / "inside.json"
    await asyncio.to_thread(file.write_text, as_json(found))

    def run(*words: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["preflight", "import", *words])
        return result.exit_code, result.output

    code, said = await asyncio.to_thread(run, str(file))
    assert code == 0, said
    assert "1 of 1 targets are new evidence" in said
    assert f"No implementation has a system at {door.target}: it is no evidence for a gate." in said
    assert "0 of 1 targets are new evidence" in (await asyncio.to_thread(run, str(file)))[1]
    await asyncio.to_thread(file.write_text, json.dumps({"version": 1}))
    code, said = await asyncio.to_thread(run, str(file))
    assert code == 2
    assert said.count("\n") == 1
    assert (await asyncio.to_thread(run, "/no/such"))[0] == 2
