"""What the doctor says of a Makini app: pure verdicts, and looks at real peers."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from starlette.responses import JSONResponse

import sandbox
from linekeeper.config import AppConfig, HealthPolicy
from linekeeper.doctor import DoctorFinding, worst
from linekeeper.doctor.makini import address, budget, clock_offset, examine_app, mode, webhooks
from linekeeper.makini import MakiniClient
from tests.makini.conftest import peer, peer_server
from tests.makini.peer import Peer

__all__ = ["peer", "peer_server"]  # fixtures

NOW = datetime(2027, 3, 1, 12, 0, tzinfo=UTC)
POLICY = HealthPolicy()


@pytest.fixture(scope="module")
async def box() -> AsyncIterator[sandbox.Served]:
    async with sandbox.serving(sandbox.Settings(port=0, connections=3)) as served:
        yield served


def _app(box: sandbox.Served, **changes: object) -> AppConfig:
    given_box = box.world.settings
    return AppConfig.model_validate(
        {
            "api_url": box.url,
            "client_id": given_box.client_id,
            "client_secret": given_box.client_secret,
            "webhook_secrets": ["s"],
            **changes,
        }
    )


async def _examine(app: AppConfig, *, seconds: float = 5.0) -> dict[str, DoctorFinding]:
    async with MakiniClient(app) as makini:
        found = await examine_app(makini, POLICY, connections=3, seconds=seconds)
    return {finding.name.removeprefix("app default · "): finding for finding in found}


async def test_an_app_in_order_has_nothing_to_mend(box: sandbox.Served) -> None:
    found = await _examine(_app(box))
    assert set(found) == {"address", "mode", "webhooks", "call budget", "login", "list", "clock"}
    assert worst(found.values()) == "ok"
    assert found["list"].text == "3 connections on the first page"


async def test_a_look_mints_nothing(box: sandbox.Served) -> None:
    before = dict(box.world.calls)
    await _examine(_app(box, mode="manage"))
    asked = {call for call, n in box.world.calls.items() if n != before.get(call)}
    assert not any(path.endswith("{key}/token") for _, path in asked)
    assert asked - {("POST", "/link/token"), ("GRANT", "client_credentials")} == {
        ("GET", "/api/system/client"),
        ("GET", "/api/system/connections"),
    }


async def test_a_wrong_secret_is_named_and_not_shown(box: sandbox.Served) -> None:
    login = (await _examine(_app(box, client_secret="hunter2")))["login"]
    assert login.level == "wrong"
    assert "refused the login" in login.text
    assert login.fix == "Check client_id and client_secret of app default"
    assert "hunter2" not in repr(login)


@pytest.mark.parametrize("status", [401, 403, 404, 500])
async def test_a_login_with_which_the_list_is_read_is_accepted(peer: Peer, status: int) -> None:
    """Though the app's own page is refused."""
    peer.answer("GET", "/api/system/client", lambda _: JSONResponse({"message": "no"}, status))
    peer.answer("GET", "/api/system/connections", {"data": [], "meta": {"total": 0}})
    app = AppConfig(api_url=peer.url, client_id="a", client_secret=SecretStr("b"))
    found = await _examine(app)
    assert (found["login"].level, found["list"].level) == ("ok", "ok")
    assert str(status) in found["login"].text
    peer.answer("GET", "/api/system/connections", lambda _: JSONResponse({"message": "no"}, 401))
    assert (await _examine(app))["login"].level == "wrong"


async def test_an_empty_secret_is_not_tried(box: sandbox.Served) -> None:
    login = (await _examine(_app(box, client_secret="")))["login"]
    assert (login.level, login.text) == ("wrong", "client_id or client_secret is empty")


async def test_nobody_at_the_address_is_a_finding_with_a_mend() -> None:
    app = AppConfig(api_url="http://127.0.0.1:1", client_id="a", client_secret=SecretStr("b"))
    found = await _examine(app)
    assert "could not be reached" in found["login"].text
    assert "api_url" in found["login"].fix
    assert "clock" not in found


async def test_a_peer_that_never_answers_is_given_up(box: sandbox.Served) -> None:
    box.world.settings.latency_ms = 60_000
    try:
        login = (await _examine(_app(box), seconds=0.2))["login"]
    finally:
        box.world.settings.latency_ms = 0
    assert login.text == "no answer within 0.2 s"


def test_secrets_in_the_clear_are_noticed() -> None:
    assert address(AppConfig(api_url="http://makini.acme.example")).level == "warn"
    assert address(AppConfig(api_url="http://127.0.0.1:8643")).level == "ok"
    assert address(AppConfig(api_url="https://api.makini.io")).level == "ok"


def test_observing_is_in_order_and_says_what_it_means() -> None:
    assert mode(AppConfig()).level == "ok"
    assert "nothing is changed" in mode(AppConfig()).text


def test_an_empty_webhook_secret_is_none() -> None:
    assert webhooks(AppConfig(webhook_secrets=(SecretStr(""),))).level == "warn"
    assert webhooks(AppConfig(webhook_secrets=(SecretStr("s"),))).level == "ok"


def test_a_fleet_the_calls_cant_bear_says_how_often_it_is_probed() -> None:
    assert budget(AppConfig(), POLICY, 1_000).level == "ok"
    tight = budget(AppConfig(per_minute=60, mode="manage"), POLICY, 1_000)
    assert tight.level == "warn"
    assert "each is probed every 29 min" in tight.text
    assert "takes 267, and 14 are for it: each is read every 4 h 40 min" in tight.text
    assert "never" in budget(AppConfig(per_minute=1, per_page=1), POLICY, 100).text


def test_tokens_that_end_before_the_next_probe_are_counted() -> None:
    every_sweep, app = HealthPolicy(probe_minutes=5), AppConfig(mode="manage")
    assert budget(app, every_sweep, 1_000).level == "ok"
    tight = budget(app, every_sweep, 1_000, 1_000)
    assert tight.level == "warn"
    assert "that takes 402 calls a minute, with a new token for 1,000 connections" in tight.text


@given(st.integers(0, 10**6), st.integers(0, 10**4), st.floats(0, 10**4), st.integers(1, 500))
def test_the_budget_is_always_judged(
    connections: int, per_minute: int, minutes: float, per_page: int
) -> None:
    app = AppConfig(per_minute=per_minute, per_page=per_page)
    assert budget(app, HealthPolicy(probe_minutes=minutes), connections).level in ("ok", "warn")


@pytest.mark.parametrize(
    ("offset", "level", "said"),
    [
        (0.0, "ok", "the same"),
        (20.0, "ok", "the same"),
        (-90.0, "warn", "behind Makini"),
        (90.0, "warn", "ahead of Makini"),
        (4_000.0, "wrong", "ahead of Makini"),
    ],
)
def test_a_clock_that_is_off_is_noticed(offset: float, level: str, said: str) -> None:
    theirs = format_datetime(NOW - timedelta(seconds=offset), usegmt=True)
    found = clock_offset("default", theirs, NOW, NOW + timedelta(seconds=1))
    assert found is not None
    assert found.level == level
    assert said in found.text


@given(st.text(max_size=40))
def test_no_date_header_breaks_the_look(date: str) -> None:
    clock_offset("default", date, NOW, NOW)
