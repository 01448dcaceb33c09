"""The pictures of an implementation's six weeks: `make pictures ARGS=weeks`."""

import asyncio
import sqlite3
import sys
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from playwright.async_api import Page
from sqlmodel import col, select

from linekeeper.implementation import queries
from linekeeper.store.tables import Gate, Implementation
from tests.e2e.camera import keep, show
from tests.e2e.conftest import ROOT, House, until

HALF = {
    "kickoff": 2.0,
    "credits": 2.2,
    "design": 9.0,
    "authentication-1": 12.0,
    "authentication-2": 20.9,
    "first-sync-1": 16.0,
}
"""Steps of `weeks` that are done in its middle, and after how many days."""
WHOLE = {
    "kickoff": 2.0,
    "credits": 0.2,
    "design": 7.0,
    "authentication": 9.0,
    "first-sync": 3.0,
    "webhooks": 0.5,
    "reconciliation": 1.5,
    "validation": 7.0,
    "go-live": 1.0,
}
"""How many days each kind of step takes."""
LONGEST = 27.5
"""Days from the kickoff to the go-live, with 3 where `WHOLE` says nothing."""


async def weeks(house: House, page: Page) -> None:
    """Six weeks of an implementation, replayed: its graph in the middle and at its end."""
    await house.trigger(
        "implementation",
        customer="Acme Metals",
        systems=[{"name": "SAP ECC"}, {"name": "Maximo"}],
        complexity="custom",
        custom_workflows=1,
        kickoff=f"{datetime.now(UTC):%Y-%m-%d}",
        owner="Petra Ops",
        by="Olaf",
    )
    began = await replay(house, days_ago=21, until=HALF)
    lost = await shown(house)
    async with house.prefect() as client:
        await client.delete_flow_run(lost)  # it is made again, with the times that were
    await house.trigger("advance-implementations")

    async def made_again() -> Any:
        run = await shown(house)
        return run if run != lost else None

    run = await until(made_again, seconds=240, what="the run to be made again")
    await rests(house, run)
    began_at(house, run, began)
    async with house.prefect() as client:
        await client.resume_flow_run(run)  # drawn again, to the scale of three weeks
    for name, place in (("implementation-graph", ""), ("implementation-graph-v2", "v2/")):
        before, after = None, run
        while before != after:  # it was woken meanwhile: Prefect shows no graph of one that begins
            before = await rests(house, run)
            await show(house, page, f"{place}runs/flow-run/{run}")
            await page.wait_for_timeout(5_000)
            await keep(page, name)
            after = await rests(house, run)
    began = await replay(house, days_ago=42, until=None)
    async with house.prefect() as client:
        await client.resume_flow_run(run)
    await house.ended(run, seconds=240)
    began_at(house, run, began)
    for name, place in (("implementation-live", ""), ("implementation-live-v2", "v2/")):
        await show(house, page, f"{place}runs/flow-run/{run}")
        await page.wait_for_timeout(5_000)
        await keep(page, name)

    await deploy_as_prefect_does(house)
    async with house.prefect() as client:
        form = await client.read_deployment_by_name("implementation/implementation")
    await show(house, page, f"deployments/deployment/{form.id}/run")
    await keep(page, "form-implementation")


async def shown(house: House) -> Any:
    """The id of the run that shows the implementation."""
    async with house.store() as store, store.read() as session:
        return UUID(str(await session.scalar(select(col(Implementation.run_id)))))


async def rests(house: House, run: Any) -> Any:
    """Wait until the run was suspended for a while: it is woken while its graph isn't to scale.
    In which state it is then: another one after each waking."""

    async def suspended() -> bool:
        async with house.prefect() as client:
            state = (await client.read_flow_run(run)).state
        assert state is not None
        return state.is_paused() and datetime.now(UTC) - state.timestamp > timedelta(seconds=15)

    await until(suspended, seconds=400, what="the run to rest")
    async with house.prefect() as client:
        return (await client.read_flow_run(run)).state_id


async def replay(house: House, *, days_ago: int, until: Mapping[str, float] | None) -> datetime:
    """As if it had begun so many days ago: what `until` names was done then, after so many days;
    without it everything was, one step after another, and it is live."""
    began = datetime.now(UTC) - timedelta(days=days_ago)
    async with house.store() as store, store.write() as session:
        [implementation] = await session.scalars(select(Implementation))
        implementation.started_at = implementation.run_at = began
        implementation.kickoff = began.date()
        rows = {row.gate: row for row in await session.scalars(select(Gate))}
        standing = await queries.load(session, implementation.id)
        assert standing is not None
        ends: dict[str, datetime] = {}
        scale = days_ago / LONGEST
        for gate in standing.plan.gates:
            row = rows[gate.id]
            opened = max((ends[need] for need in gate.needs), default=began)
            took = WHOLE.get(gate.id.rstrip("0123456789").rstrip("-"), 3.0) * scale
            done = opened + timedelta(days=took)
            if until is not None and gate.id in until:
                done = began + timedelta(days=until[gate.id])
            ends[gate.id] = done
            waits = until is not None and any(need not in until for need in gate.needs)
            if opened >= datetime.now(UTC) or waits:
                continue
            row.status, row.opened_at, row.changes = "open", opened, row.changes + 1
            if until is None or gate.id in until:
                row.status, row.done_at, row.done_by = "done", done, "Petra"
                row.evidence = "The minutes are signed" if row.check_name is None else "Proven."
        if until is None:
            implementation.status, implementation.live_at = "live", max(ends.values())
            implementation.actual = {"live": f"{max(ends.values()):%Y-%m-%d}", "kept": True}
    return began


def began_at(house: House, run: Any, began: datetime) -> None:
    """Have Prefect's page begin when the work did: a run made again began a minute ago."""
    with closing(sqlite3.connect(house.home / "prefect" / "prefect.db", timeout=60)) as database:
        at = f"{began:%Y-%m-%d %H:%M:%S.%f}"
        database.execute(
            "UPDATE flow_run SET start_time = ?, expected_start_time = ? WHERE id = ?",
            (at, at, str(run)),
        )
        database.commit()


async def deploy_as_prefect_does(house: House) -> None:
    """`prefect deploy --all`, as Prefect's users do it."""
    environment = house.environment | {"PREFECT_API_URL": f"{house.url('prefect')}/api"}
    deploying = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"),
        cwd=ROOT,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
    )
    if await deploying.wait() != 0:
        raise RuntimeError("prefect deploy --all failed")
