"""docs/samples/linekeeper_client.py goes on with the last token while Linekeeper is down."""

import importlib.util
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

SAMPLE = Path(__file__).parents[2] / "docs" / "samples" / "linekeeper_client.py"


class Linekeeper:
    """A peer on loopback that answers as it is told."""

    def __init__(self) -> None:
        self.status = 200
        self.token = "first"
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                ends = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
                body = json.dumps({"access_token": outer.token, "expires_at": ends}).encode()
                self.send_response(outer.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def linekeeper() -> Iterator[Linekeeper]:
    peer = Linekeeper()
    yield peer
    peer.stop()


@pytest.fixture
def sample(monkeypatch: pytest.MonkeyPatch) -> Any:
    spec = importlib.util.spec_from_file_location("linekeeper_client", SAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_fresh_token_is_not_asked_for_twice(linekeeper: Linekeeper, sample: Any) -> None:
    tokens = sample.Linekeeper(linekeeper.url, "lk_x")
    assert tokens.token("c1") == tokens.token("c1") == "first"
    assert len(linekeeper.asked) == 1


@pytest.mark.parametrize("status", [500, 503, 429, None])
def test_while_linekeeper_is_down_the_last_token_goes_on(
    linekeeper: Linekeeper, sample: Any, monkeypatch: pytest.MonkeyPatch, status: int | None
) -> None:
    monkeypatch.setattr(sample, "KEPT_SECONDS", 0)
    tokens = sample.Linekeeper(linekeeper.url, "lk_x")
    assert tokens.token("c1") == "first"
    if status is None:
        linekeeper.stop()
    else:
        linekeeper.status = status
    assert tokens.token("c1") == "first"
    with pytest.raises(httpx.HTTPError):
        tokens.token("c2")


def test_a_lost_login_ends_the_token_of_before(
    linekeeper: Linekeeper, sample: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample, "KEPT_SECONDS", 0)
    tokens = sample.Linekeeper(linekeeper.url, "lk_x")
    tokens.token("c1")
    linekeeper.status = 409
    with pytest.raises(sample.LoginLost):
        tokens.token("c1")
    linekeeper.status = 503
    with pytest.raises(httpx.HTTPError):
        tokens.token("c1")


def test_a_failed_call_is_no_trouble_while_linekeeper_is_down(
    linekeeper: Linekeeper, sample: Any
) -> None:
    tokens = sample.Linekeeper(linekeeper.url, "lk_x")
    linekeeper.stop()
    tokens.call_failed("c1", httpx.Response(500))


def test_a_refused_token_is_reported_and_asked_for_anew(
    linekeeper: Linekeeper, sample: Any
) -> None:
    tokens = sample.Linekeeper(linekeeper.url, "lk_x")
    tokens.token("c1")
    tokens.call_failed("c1", httpx.Response(401))
    linekeeper.token = "second"
    assert tokens.token("c1") == "second"
    assert "/api/connections/c1/observations" in linekeeper.asked
