"""Prefect's server as `up` starts it: what a person sends is not lost beside other writers."""

import asyncio
import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from alembic.script import ScriptDirectory

from linekeeper.cli.prefect_server import is_by_a_person, look_seldom
from linekeeper.cli.prefect_template import make_template
from linekeeper.settings import Settings
from tasks.prefect_adapter.server import (
    PAGE_BYTES,
    make_database,
    prefect_template,
    server_environment,
)
from tests.fixtures_prefect import PrefectServer

FORMS = 20


def test_its_services_look_for_work_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the names that the installed Prefect has for it."""
    from docket import Docket, Worker
    from prefect.server.api import background_workers  # takes a second and a half

    monkeypatch.setattr(background_workers, "Worker", Worker)  # put back; it has that name
    look_seldom()
    worker = vars(background_workers)["Worker"](Docket("linekeeper-test", "memory://"))
    second = timedelta(seconds=1)
    assert (worker.minimum_check_interval, worker.scheduling_resolution) == (second, second)


async def test_its_pages_ask_the_api_at_the_address_they_were_opened_by(
    prefect_server: PrefectServer,
) -> None:
    """Through a tunnel with another port the one that the server has is nobody's."""
    async with httpx.AsyncClient() as http:
        answered = await http.get(f"http://{prefect_server.host}:{prefect_server.port}/ui-settings")
    assert answered.json()["api_url"] == "/api"


@pytest.mark.parametrize("name", ["PREFECT_SERVER_UI_API_URL", "PREFECT_UI_API_URL"])
def test_where_its_pages_find_the_api_may_be_said(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "https://prefect.example.com/plant/api")
    own = server_environment(Settings(home=tmp_path / "home"))
    assert own["PREFECT_SERVER_UI_API_URL"] == "https://prefect.example.com/plant/api"


@contextmanager
def _writers(server: PrefectServer) -> Iterator[None]:
    """Short transactions of others on Prefect's database, one after the other."""
    stop = threading.Event()

    def write() -> None:
        with closing(sqlite3.connect(server.database, isolation_level=None)) as database:
            database.execute("PRAGMA busy_timeout=30000")
            while not stop.wait(0.02):
                database.execute("BEGIN IMMEDIATE")
                database.execute("UPDATE flow SET updated = updated")
                database.execute("COMMIT")

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


async def _made(http: httpx.AsyncClient, path: str, wanted: dict[str, Any]) -> str:
    """The id of what Prefect makes; its own services write as well, and its client would repeat."""
    while True:
        answer = await http.post(path, json=wanted)
        if answer.status_code < 500:
            assert answer.is_success, answer.text
            return str(answer.json()["id"])
        await asyncio.sleep(0.1)


async def test_forms_are_answered_and_runs_started_while_others_write(
    clean_prefect: PrefectServer,
) -> None:
    async with httpx.AsyncClient(base_url=clean_prefect.api_url, timeout=60) as http:
        flow = await _made(http, "/flows/", {"name": "asks-a-person"})
        deployed = {"name": "asks-a-person", "flow_id": flow}
        deployment = await _made(http, "/deployments/", deployed)
        tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
        asking = {"pause_reschedule": True, "pause_timeout": tomorrow}
        wanted = {
            "flow_id": flow,
            "deployment_id": deployment,
            "state": {"type": "PAUSED", "name": "Suspended", "state_details": asking},
        }
        runs = [await _made(http, "/flow_runs/", wanted) for _ in range(FORMS)]
        with _writers(clean_prefect):
            answers = await asyncio.gather(
                *(http.post(f"/flow_runs/{run}/resume", json={"run_input": {}}) for run in runs)
            )
            start = f"/deployments/{deployment}/create_flow_run"
            started = await asyncio.gather(*(http.post(start, json={}) for _ in range(FORMS)))
            saved = await asyncio.gather(
                *(
                    http.post("/variables/", json={"name": f"v_{number}", "value": number})
                    for number in range(FORMS)
                )
            )
            changed = await asyncio.gather(
                *(
                    http.patch(f"/deployments/{deployment}", json={"description": f"{number}"})
                    for number in range(FORMS)
                )
            )
        assert {answer.status_code for answer in started} == {201}
        assert len({answer.json()["id"] for answer in started}) == FORMS
        assert {answer.status_code for answer in saved} == {201}
        assert {answer.status_code for answer in changed} == {204}
        assert {answer.status_code for answer in answers} <= {200, 201}
        assert {answer.json()["status"] for answer in answers} == {"ACCEPT"}
        after = [(await http.get(f"/flow_runs/{run}")).json()["state"]["type"] for run in runs]
    assert set(after) == {"SCHEDULED"}


@pytest.mark.parametrize(
    ("method", "path", "is_repeated"),
    [
        ("POST", "/api/flow_runs/1/resume", True),
        ("POST", "/api/deployments/1/create_flow_run", True),
        ("POST", "/api/deployments/1/pause_deployment", True),
        ("PATCH", "/api/deployments/1", True),
        ("PATCH", "/api/block_documents/1", True),
        ("POST", "/api/block_documents/", True),
        ("POST", "/api/deployments/", True),
        ("POST", "/api/flows/", True),
        ("DELETE", "/api/variables/name/linekeeper_paused", True),
        ("POST", "/api/block_documents/filter", False),
        ("POST", "/api/deployments/filter", False),
        ("POST", "/api/flows/filter", False),
        ("POST", "/api/task_runs/", False),
        ("POST", "/api/flow_runs/1/set_state", False),
        ("GET", "/api/deployments/1", False),
    ],
)
def test_what_a_person_sends_is_told_from_what_runs_send(
    method: str, path: str, is_repeated: bool
) -> None:
    assert is_by_a_person(method, path) is is_repeated


@pytest.mark.parametrize("when", ["before", pytest.param("now", marks=pytest.mark.soak)])
def test_a_new_home_begins_with_the_database_that_was_made_at_the_install(
    tmp_path: Path, when: str
) -> None:
    # Prefect's server, which no other test needs in its own process, takes long to import.
    from prefect.server.database.alembic_commands import alembic_config
    from prefect.server.database.orm_models import AioSqliteORMConfiguration

    template, made = prefect_template(), tmp_path / "home" / "prefect.db"
    if when == "now" or not template.exists():  # a hundred migrations
        template = tmp_path / "share" / template.name
        make_template(template)
        assert [file.name for file in template.parent.iterdir()] == [template.name]
    made.parent.mkdir()
    make_database(made, template)
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    with closing(sqlite3.connect(made)) as database:
        [(revision,)] = database.execute("SELECT version_num FROM alembic_version").fetchall()
        [(page,)] = database.execute("PRAGMA page_size").fetchall()
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master")]
    migrations = ScriptDirectory.from_config(alembic_config())
    migrations.version_locations = [str(AioSqliteORMConfiguration().versions_dir)]
    assert (revision, page) == (migrations.get_current_head(), PAGE_BYTES)
    assert {"flow_run", "deployment", "events"} <= set(tables)
    made.write_bytes(b"somebody's")
    make_database(made, template)
    assert made.read_bytes() == b"somebody's"
