"""Evidence has an age, a certificate an end, and a vantage belongs to the worker that has it."""

from dataclasses import replace
from datetime import date, timedelta

import pytest
from sqlalchemy import select
from sqlmodel import col

from linekeeper.implementation.proofs import is_cloud
from linekeeper.implementation.scope import PlanError
from linekeeper.preflight.ageing import conclude_ageing
from linekeeper.preflight.evidence import keep, verified
from linekeeper.preflight.intake import ReportError, parse_report
from linekeeper.preflight.run import PreflightVerdicts, as_json
from linekeeper.preflight.verdict import Verdict
from linekeeper.store.tables import (
    AppState,
    Implementation,
    ImplementationSystem,
    Incident,
    PreflightReport,
)
from tests.implementation.conftest import Office

TARGET = "erp.acme.example:443"


def report(office: Office, days_left: float | None = None) -> PreflightVerdicts:
    """A report that found nothing, as a customer's IT sends it."""
    verdicts = [Verdict(TARGET, "inside", "tcp", "ok", "open")]
    if days_left is not None:
        ends = (office.now + timedelta(days=days_left)).isoformat()
        verdicts.append(Verdict(TARGET, "inside", "tls-expiry", "ok", "days left", ends))
    made = PreflightVerdicts("inside", office.now, (TARGET,), tuple(verdicts))
    return parse_report(as_json(made).encode())


async def on_premises(office: Office) -> None:
    await office.start(
        systems=["SAP ECC"], complexity="enterprise", hosting="on-premises", targets=[TARGET]
    )


async def opened(office: Office) -> list[str]:
    async with office.store.read() as session:
        rows = await session.scalars(
            select(col(Incident.title)).where(col(Incident.resolved_at).is_(None))
        )
        return sorted(rows)


async def test_a_report_of_700_days_ago_proves_nothing(office: Office) -> None:
    await on_premises(office)
    old = replace(report(office), at=office.now - timedelta(days=700))
    with pytest.raises(ReportError, match="is 700 days ago"):
        await keep(office.store, old, source="import", by="Ann", now=office.now)


async def test_a_step_is_not_proven_by_a_report_from_long_before_it_opened(
    office: Office,
) -> None:
    started = await office.start(
        systems=["SAP ECC"], complexity="enterprise", hosting="on-premises", targets=[TARGET]
    )
    await keep(office.store, report(office), source="import", by="Ann", now=office.now)
    office.later(days=40)
    for gate in ("kickoff", "security-review", "network"):
        await office.says(started.progress, gate)
    moved = await office.advance(started.progress)
    assert "check again" in moved.lacks["preflight"].text
    await keep(office.store, report(office), source="import", by="Ann", now=office.now)
    moved = await office.advance(started.progress)
    assert "preflight" in moved.evaluation.having("done")


async def test_an_imported_report_that_grew_old_asks_for_a_new_one(office: Office) -> None:
    await on_premises(office)
    await keep(office.store, report(office), source="import", by="Ann", now=office.now)
    office.later(days=29)
    assert await conclude_ageing(office.store, now=office.now) == []
    office.later(days=3)
    [asked] = await conclude_ageing(office.store, now=office.now)
    assert "ask the customer's IT for a new report" in asked.text
    assert await conclude_ageing(office.store, now=office.now) == []
    assert await opened(office) == [f"Acme · SAP ECC · outdated report on {TARGET} from inside"]
    await keep(office.store, report(office), source="import", by="Ann", now=office.now)
    [renewed] = await conclude_ageing(office.store, now=office.now)
    assert renewed.what == "resolved"


async def test_an_address_that_changed_after_the_step_is_asked_for_until_it_was_checked(
    office: Office,
) -> None:
    started = await office.start(
        systems=["SAP ECC"], complexity="enterprise", hosting="on-premises", targets=[TARGET]
    )
    for gate in ("kickoff", "security-review", "network"):
        await office.says(started.progress, gate)
    await keep(office.store, report(office), source="flow", by="preflight", now=office.now)
    moved = await office.advance(started.progress)
    assert "preflight" in moved.evaluation.having("done")
    await office.update(moved, "target", gate="SAP ECC", to="new.acme.example:443")
    assert await opened(office) == ["Acme · SAP ECC · no check of new.acme.example:443"]

    found = Verdict("new.acme.example:443", "inside", "tcp", "finding", "refused")
    office.later(hours=1)
    refused = PreflightVerdicts("inside", office.now, (found.target,), (found,))
    await keep(office.store, refused, source="flow", by="preflight", now=office.now)
    assert await conclude_ageing(office.store, now=office.now) == []

    office.later(hours=1)
    good = replace(refused, at=office.now, verdicts=(replace(found, status="ok"),))
    await keep(office.store, good, source="import", by="Ann", now=office.now)
    [checked] = await conclude_ageing(office.store, now=office.now)
    assert checked.what == "resolved"


async def test_an_address_is_not_asked_for_before_its_step_or_where_that_was_skipped(
    office: Office,
) -> None:
    started = await office.start(
        systems=["SAP ECC"], complexity="enterprise", hosting="on-premises", targets=[TARGET]
    )
    await office.update(started.progress, "target", to="new.acme.example:443")
    assert await opened(office) == []
    await office.update(
        started.progress, "skip", gate="preflight", reason="their policy forbids it"
    )
    await office.update(started.progress, "target", to="newer.acme.example:443")
    assert await conclude_ageing(office.store, now=office.now) == []


async def test_after_the_go_live_a_system_may_still_move_and_nothing_else_changes(
    office: Office,
) -> None:
    started = await office.start(
        systems=["SAP ECC"], complexity="enterprise", hosting="on-premises", targets=[TARGET]
    )
    async with office.store.write() as session:
        row = await session.get_one(Implementation, started.progress.standing.implementation.id)
        row.status, row.live_at = "live", office.now
        forecast = row.p50, row.p80, row.forecast_at
    office.later(days=200)
    with pytest.raises(PlanError, match="nothing to change"):
        await office.update(started.progress, "move", day=office.now.date(), which_date="committed")
    moved = await office.update(started.progress, "target", to="new.acme.example:443")
    assert moved.message == "SAP ECC is reached at new.acme.example:443"
    async with office.store.read() as session:
        row = await session.get_one(Implementation, started.progress.standing.implementation.id)
        assert (row.status, row.p50, row.p80, row.forecast_at) == ("live", *forecast)
        [system] = await session.scalars(select(ImplementationSystem))
    assert system.target == "new.acme.example:443"


async def test_a_certificate_warns_30_14_and_3_days_ahead_and_once_each(office: Office) -> None:
    await on_premises(office)
    await keep(office.store, report(office, 31.5), source="import", by="Ann", now=office.now)
    warned = []
    for _ in range(30):
        changes = await conclude_ageing(office.store, now=office.now)
        if any(c.what == "opened" for c in changes):
            ends = (await opened(office))[-1].rpartition(" ")[2]
            warned.append((date.fromisoformat(ends) - office.now.date()).days)
        office.later(days=1)
    assert warned == [29, 13, 2]


async def test_a_certificate_that_has_ended_is_not_said_to_end(office: Office) -> None:
    await on_premises(office)
    await keep(office.store, report(office, 1.5), source="import", by="Ann", now=office.now)
    day = f"{office.now + timedelta(days=1.5):%Y-%m-%d}"
    [change] = await conclude_ageing(office.store, now=office.now)
    assert f"The certificate of {TARGET} ends tomorrow, on {day}; after that" in change.text
    office.later(days=5)
    await conclude_ageing(office.store, now=office.now)
    async with office.store.read() as session:
        [incident] = await session.scalars(select(Incident))
    assert incident.title.endswith(f"certificate of {TARGET}, valid until {day}")
    assert f"The certificate of {TARGET} ended on {day}; unless" in incident.summary


async def test_a_vantage_belongs_to_the_worker_that_has_it(office: Office) -> None:
    await on_premises(office)
    await keep(
        office.store, report(office), source="flow", by="preflight", worker="plant", now=office.now
    )
    async with office.store.write() as session:
        assert await verified(session, "plant") == [(TARGET, "inside")]
        assert await verified(session, "cloud") == []
        [row] = await session.scalars(select(PreflightReport))
        row.worker = None  # from before workers were named
        await session.flush()
        assert await verified(session, "cloud") == [(TARGET, "inside")]


async def test_a_self_hosted_installation_is_proven_by_its_own_app_only(office: Office) -> None:
    """H3: a self-hosted Makini is verified by its own app."""
    started = await office.start(
        systems=["UpKeep"], complexity="standard", hosting="self-hosted", app="plant"
    )
    for gate in ("kickoff", "installation"):
        await office.says(started.progress, gate)
    office.later(hours=1)
    await office.advance(started.progress)
    async with office.store.write() as session:
        session.add(
            AppState(app="plant", last_list_at=office.now, listed_from="https://api.makini.io")
        )
    moved = await office.advance(started.progress)
    assert "is Makini's cloud" in moved.lacks["reachability"].text
    async with office.store.write() as session:
        row = await session.get_one(AppState, "plant")
        row.listed_from = "https://makini.plant.example"
    moved = await office.advance(started.progress)
    assert "reachability" in moved.evaluation.having("done")
    assert not is_cloud("https://makini.io.plant.example")
    assert is_cloud("https://api.makini.io/")


async def test_an_installation_that_is_away_by_now_is_not_proven_by_an_older_list(
    office: Office,
) -> None:
    """H3: it answered while it was set up; its list has failed ever since."""
    started = await office.start(
        systems=["UpKeep"], complexity="standard", hosting="self-hosted", app="plant"
    )
    office.later(hours=1)
    plant = AppState(
        app="plant", last_list_at=office.now, listed_from="https://makini.plant.example"
    )
    async with office.store.write() as session:
        session.add(plant)
    office.later(days=3)
    for gate in ("kickoff", "installation"):
        await office.says(started.progress, gate)
    moved = await office.advance(started.progress)
    assert "reachability" not in moved.evaluation.having("done")
    assert "since this step opened" in moved.lacks["reachability"].text
    office.later(minutes=5)
    async with office.store.write() as session:
        (await session.get_one(AppState, "plant")).last_list_at = office.now
    moved = await office.advance(started.progress)
    assert "reachability" in moved.evaluation.having("done")
