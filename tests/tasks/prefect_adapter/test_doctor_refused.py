"""The doctor says which password or key Prefect refuses, and who starts one that is away."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_KEY,
    PREFECT_API_URL,
    temporary_settings,
)

from linekeeper.doctor.finding import DoctorFinding
from linekeeper.settings import Settings
from tasks.prefect_adapter.examination import examine_prefect
from tests.databases import KEY


class _Refusing(BaseHTTPRequestHandler):
    def _refuse(self) -> None:
        self.send_response(401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST = _refuse

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Prefect that lets nobody in."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{server.server_port}/api")
    yield
    server.shutdown()
    server.server_close()


async def _said(tmp_path: Path) -> DoctorFinding:
    settings = Settings(home=tmp_path, encryption_keys=(KEY,))
    [finding] = await examine_prefect(settings, seconds=20)
    assert "answers 401" in finding.text
    assert finding.name == "prefect · API", "the part *prefect* is another line of the report"
    return finding


@pytest.mark.usefixtures("refusing")
async def test_a_wrong_password_is_to_be_corrected_and_a_missing_one_to_be_set(
    tmp_path: Path,
) -> None:
    with temporary_settings(restore_defaults={PREFECT_API_AUTH_STRING, PREFECT_API_KEY}):
        assert (await _said(tmp_path)).fix.startswith("set PREFECT_API_AUTH_STRING")
    with temporary_settings({PREFECT_API_AUTH_STRING: "admin:wrong"}):
        assert "refuses the PREFECT_API_AUTH_STRING that is set here" in (await _said(tmp_path)).fix


async def test_anothers_server_is_to_be_started_by_whoever_runs_it(tmp_path: Path) -> None:
    """`linekeeper up` starts no Prefect where `PREFECT_API_URL` names one."""
    settings = Settings(home=tmp_path, encryption_keys=(KEY,), prefect_port=9)
    for url, fix in (("http://127.0.0.1:9/api", "start that server"), (None, "start it (`lin")):
        with temporary_settings({PREFECT_API_URL: url}):
            [finding] = await examine_prefect(settings, seconds=2)
        assert "does not answer" in finding.text
        assert finding.fix.startswith(fix)
