"""Gates wait for weeks, and Prefect is killed meanwhile: nothing is lost, nothing happens twice.

The weeks pass in both databases: every time in them becomes that much older while nobody runs.
"""

import re
import signal
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from prefect.client.schemas.objects import FlowRun
from sqlmodel import col, select

from linekeeper.store.tables import Audit, Gate, Implementation, Outbox
from tests.e2e.conftest import PARTS, House, free_ports, started, until

pytestmark = [pytest.mark.e2e, pytest.mark.soak]
SLUG = "quarry-and-sons-sap-ecc"
WEEKS = 9
OURS = {
    "implementation": ("started_at", "forecast_at", "run_at"),
    "gate": ("opened_at", "done_at"),
    "outbox": ("created_at", "next_attempt_at", "settled_at"),
    "audit": ("at",),
}
PREFECTS = {
    "flow_run": ("created", "updated", "start_time", "expected_start_time", "end_time"),
    "flow_run_state": ("created", "updated", "timestamp"),
}


@asynccontextmanager
async def up(home: Path, ports: dict[str, int]) -> AsyncIterator[House]:
    """`linekeeper up` on `home`, ended by `kill -9` of everything, as when the power goes."""
    async with started(
        home,
        ports,
        *("--sandbox", "--scenario", "quiet", "--no-schedules", "--connections", "4"),
        # Prefect's own clean-up looks at once, not only after an hour.
        PREFECT_SERVER_SERVICES_DB_VACUUM_LOOP_SECONDS="5",
    ) as house:
        try:
            yield house
        finally:
            everything = psutil.Process(house.process.pid)
            for one in [*everything.children(recursive=True), everything]:
                one.kill()
            await house.process.wait()


def grow_old(database: Path, times: dict[str, tuple[str, ...]], form: str) -> None:
    """Every time in `times` becomes `WEEKS` older."""
    with closing(sqlite3.connect(database)) as connection, connection:
        for table, columns in times.items():
            for column in columns:
                connection.execute(
                    f"UPDATE {table} SET {column} = strftime('{form}', {column}, '-{7 * WEEKS} "
                    f"days') WHERE {column} IS NOT NULL"
                )


async def rows(house: House, statement: Any) -> list[Any]:
    async with house.store() as store, store.read() as session:
        return list(await session.scalars(statement))


async def asking(house: House) -> dict[str, FlowRun]:
    """The runs that wait for a person, by the gate they ask for."""
    titles = {life.id: life.gate for life in await rows(house, select(Gate))}
    suspended = await house.runs(state="Suspended")
    return {
        titles[str(run.parameters["gate"])]: run for run in suspended if "gate" in run.parameters
    }


async def wait_for(house: House, *gates: str) -> dict[str, FlowRun]:
    async def there() -> Any:
        found = await asking(house)
        return found if set(gates) <= set(found) else None

    found: dict[str, FlowRun] = await until(there, what=f"{gates} to wait", seconds=180)
    return found


async def say(house: House, run: FlowRun, evidence: str) -> FlowRun:
    answer = {"outcome": "done", "evidence": evidence, "by": "Petra"}
    async with house.prefect() as client:
        await client.resume_flow_run(run.id, run_input=answer)
    return await house.ended(run.id, seconds=180)


async def healthy(house: House) -> bool:
    try:
        answer = await house.http.get(f"{house.url('prefect')}/api/health")
    except httpx.HTTPError:
        return False
    return answer.status_code == 200


async def test_suspended_for_weeks_over_a_killed_prefect_nothing_is_lost_or_doubled(
    tmp_path: Path,
) -> None:
    home, ports = tmp_path / "home", free_ports(*PARTS)
    async with up(home, ports) as house:
        started = await house.trigger(
            "implementation",
            customer="Quarry and Sons",
            systems=[{"name": "SAP ECC"}],
            complexity="custom",
            hosting="on-premises",
            custom_workflows=1,
            kickoff=date.today().isoformat(),  # noqa: DTZ011  the form's own idea of a day
            owner="Petra Ops",
            by="Olaf",
        )
        assert started.state is not None
        assert started.state.name == "Suspended", started.state.message
        kickoff = (await wait_for(house, "kickoff"))["kickoff"]
        await say(house, kickoff, "minutes of the meeting")
        before = await wait_for(house, "design", "network")

        [server] = [
            one
            for one in psutil.Process(house.process.pid).children(recursive=True)
            if "linekeeper.cli.prefect_server" in one.cmdline()
        ]
        server.send_signal(signal.SIGKILL)
        server.wait(30)
        await until(lambda: healthy(house), what="Prefect to be back", seconds=120)
        assert {k: r.id for k, r in (await asking(house)).items()} == {
            k: r.id for k, r in before.items()
        }

    grow_old(home / "linekeeper.db", OURS, "%Y-%m-%dT%H:%M:%f000+00:00")
    grow_old(home / "linekeeper.db", {"implementation": ("kickoff",)}, "%Y-%m-%d")
    grow_old(home / "prefect" / "prefect.db", PREFECTS, "%Y-%m-%d %H:%M:%f000")

    async with up(home, ports) as house:

        async def cleaned_up() -> bool:
            return kickoff.id not in {run.id for run in await house.runs()}

        await until(cleaned_up, what="Prefect to forget what ended weeks ago", seconds=120)
        after = await wait_for(house, "design", "network")
        assert {k: r.id for k, r in after.items()} == {k: r.id for k, r in before.items()}
        moved = await house.trigger("advance-implementations")
        assert moved.state is not None
        assert "started again" not in str(moved.state.message)
        [one] = await rows(house, select(Implementation).where(col(Implementation.slug) == SLUG))
        assert one.digest is not None
        assert "overdue" in one.digest

        ended = await say(house, after["design"], "signed by both")
        assert ended.state is not None
        assert ended.state.name == "Completed", ended.state.message
        ended = await say(house, after["network"], "change request 7")
        assert ended.state is not None
        assert ended.state.name == "Completed", ended.state.message
        assert (await house.trigger("advance-implementations")).state is not None

        gates = {one.gate: one for one in await rows(house, select(Gate))}
        done = ("kickoff", "design", "network")
        assert [gates[name].status for name in done] == ["done"] * 3
        assert {gate.attempt for gate in gates.values()} == {0, 1}
        audited = await rows(house, select(Audit).where(col(Audit.action) == "gate.done"))
        assert Counter(one.detail["gate"] for one in audited) == Counter(done)
        runs = Counter(
            str(run.parameters["gate"]) for run in await house.runs() if "gate" in run.parameters
        )
        assert set(runs.values()) == {1}
        waiting = await rows(house, select(Outbox).where(col(Outbox.status) == "pending"))
        assert [row for row in waiting if row.channel == "run"] == []
        # Nine weeks with work of ours to do are ours, whoever else could have worked meanwhile.
        async with house.prefect() as client:
            page = await client.request("GET", f"/artifacts/implementation-{SLUG}/latest")
        said = re.search(
            r"Working days so far: (\d+)\.\d waiting for us, 0\.\d for", str(page.json())
        )
        assert said is not None
        assert int(said[1]) >= 4 * WEEKS
