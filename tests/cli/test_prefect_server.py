"""Prefect's server as `up` starts it: the answer of a form is not lost beside other writers."""

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta

import httpx

from tests.fixtures_prefect import HOME, PrefectServer

FORMS = 40


@contextmanager
def _writers() -> Iterator[None]:
    """Short transactions of others on Prefect's database, one after the other."""
    stop = threading.Event()

    def write() -> None:
        with closing(
            sqlite3.connect(HOME / "server" / "prefect" / "prefect.db", isolation_level=None)
        ) as database:
            database.execute("PRAGMA busy_timeout=30000")
            while not stop.wait(0.002):
                database.execute("BEGIN IMMEDIATE")
                database.execute("UPDATE flow SET updated = updated")
                database.execute("COMMIT")

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


async def test_every_form_is_answered_while_others_write(clean_prefect: PrefectServer) -> None:
    async with httpx.AsyncClient(base_url=clean_prefect.api_url, timeout=60) as http:
        flow = (await http.post("/flows/", json={"name": "asks-a-person"})).json()["id"]
        deployed = {"name": "asks-a-person", "flow_id": flow}
        made = await http.post("/deployments/", json=deployed)
        assert made.is_success, made.text
        deployment = made.json()["id"]
        tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
        asking = {"pause_reschedule": True, "pause_timeout": tomorrow}
        wanted = {
            "flow_id": flow,
            "deployment_id": deployment,
            "state": {"type": "PAUSED", "name": "Suspended", "state_details": asking},
        }
        runs = []
        for _ in range(FORMS):
            made = await http.post("/flow_runs/", json=wanted)
            runs.append(made.json()["id"])
        with _writers():
            answers = await asyncio.gather(
                *(http.post(f"/flow_runs/{run}/resume", json={"run_input": {}}) for run in runs)
            )
        assert {answer.status_code for answer in answers} <= {200, 201}
        assert {answer.json()["status"] for answer in answers} == {"ACCEPT"}
        after = [(await http.get(f"/flow_runs/{run}")).json()["state"]["type"] for run in runs]
    assert set(after) == {"SCHEDULED"}
