"""The controls, who may use them, and the pages for people."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import psutil
import pytest
from slack_sdk.web.async_client import AsyncWebClient

from sandbox import Settings, create_app, serving
from sandbox.scenario import DAY_SECONDS, NIGHT_FROM, NIGHT_SECONDS, script
from sandbox.world import World

from .conftest import Box

Opens = Callable[..., Awaitable[Box]]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.com", ""])
def test_only_a_loopback_address_is_listened_to(host: str) -> None:
    with pytest.raises(ValueError, match="this machine only"):
        Settings(host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.0.1"])
def test_every_loopback_address_will_do(host: str) -> None:
    assert Settings(host=host).host == host


@pytest.mark.parametrize(
    ("client", "headers", "status"),
    [
        ("127.0.0.1", {}, 200),
        ("10.0.0.5", {}, 403),
        ("127.0.0.1", {"Host": "evil.example"}, 403),
        ("127.0.0.1", {"Origin": "https://evil.example"}, 403),
        ("127.0.0.1", {"Origin": "http://127.0.0.1:8643"}, 200),
    ],
)
async def test_only_this_machine_controls_the_sandbox(
    client: str, headers: dict[str, str], status: int
) -> None:
    transport = httpx.ASGITransport(app=create_app(Settings()), client=(client, 1))
    async with httpx.AsyncClient(
        transport=transport, base_url="http://127.0.0.1:8643", verify=False
    ) as http:
        for path in ("/_control/truth", "/_control/slack", "/slack"):
            assert (await http.get(path, headers=headers)).status_code == status


async def test_a_taken_port_is_said_in_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"127.0.0.1:{port}.*LINEKEEPER_SANDBOX_PORT"):
            async with serving(Settings(port=port)):
                pass


def test_secrets_are_not_in_the_repr() -> None:
    settings = Settings()
    for secret in ("sandbox-secret", "webhook-secret", "xoxb", "signing"):
        assert secret not in repr(settings)


async def test_an_unknown_connection_action_or_setting_is_said(box: Box) -> None:
    key = (await box.keys())[0]
    assert (await box.act("nope", "go-offline")).status_code == 404
    refused = await box.act(key, "explode")
    assert refused.status_code == 404
    assert "go-offline" in refused.json()["message"]
    answer = await box.http.post("/_control/settings", json={"speed": 1})
    assert (answer.status_code, "speed" in answer.json()["message"]) == (400, True)
    answer = await box.http.post("/_control/slack", json={"volume": 1})
    assert answer.status_code == 400


async def test_a_pressed_button_breaks_the_connection_and_leads_back(box: Box) -> None:
    key = (await box.keys())[0]
    answer = await box.http.post(
        f"/_control/connections/{key}/change-credentials", headers={"Accept": "text/html"}
    )
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    page = (await box.http.get("/")).text
    assert "Reauthorization required</span>" in page
    assert f"/_control/connections/{key}/mend" in page
    found = await box.http.get("/", params={"q": "login lost"})
    assert found.text.count('<tr id="c-') == 1


async def test_everything_is_mended_by_one_action(box: Box) -> None:
    key = (await box.keys())[0]
    for action in ("change-credentials", "go-offline", "deactivate", "fail-sync", "stall-sync"):
        await box.act(key, action)
    await box.act(key, "mend")
    answer = await box.status(key)
    assert answer.json()["data"]["sync_status"] == "done"


async def test_records_change_all_over_the_fleet_as_counted(box: Box) -> None:
    answer = await box.http.post("/_control/records", json={"make": 10, "change": 20, "delete": 5})
    totals = {"made": 0, "changed": 0, "deleted": 0}
    for entities in answer.json()["records"].values():
        for keys in entities.values():
            for name in totals:
                totals[name] += len(keys[name])
    assert totals == {"made": 10, "changed": 20, "deleted": 5}


async def test_a_new_customer_can_arrive_pending(box: Box) -> None:
    answer = await box.http.post(
        "/_control/connections", json={"name": "Nova", "provider": "fiix", "pending": True}
    )
    assert answer.json()["state"] == "pending"
    headers = await box.admin()
    listed = await box.http.get("/api/system/connections", headers=headers)
    assert [c["status"] for c in listed.json()["data"]].count("Pending") == 1


async def test_a_restart_keeps_tokens_records_states_and_messages(
    open_box: Opens, tmp_path: Path
) -> None:
    path = tmp_path / "sandbox.state"
    async with (
        serving(Settings(port=0, state_path=path)) as served,
        httpx.AsyncClient(base_url=served.url, verify=False) as http,
    ):
        before = Box(served, http)
        first, second, third = (await before.keys())[:3]
        headers = await before.as_connection(first)
        await before.act(second, "change-credentials")
        await before.act(third, "disconnect")
        await http.post("/_control/records", json={"make": 5, "change": 9, "delete": 3})
        await AsyncWebClient("xoxb-sandbox", base_url=f"{served.url}/slack/api/").chat_postMessage(
            channel="#ops", text="kept"
        )
        asked = {"webhooks": "0"}
        truth = (await http.get("/_control/truth", params=asked)).json()
    assert path.stat().st_mode & 0o777 == 0o600
    after = await open_box(state_path=path)
    again = (await after.http.get("/_control/truth", params=asked)).json()
    assert again["records"] == truth["records"]
    assert again["states"] == truth["states"]
    assert again["states"][second] == "login lost"
    assert third not in again["states"]
    answer = await after.http.get("/api/integrations/current", headers=headers)
    assert answer.json()["data"]["id"] == first
    [message] = (await after.http.get("/_control/slack")).json()["messages"]
    assert message["text"] == "kept"


async def test_the_state_that_an_earlier_version_kept_goes_on(
    open_box: Opens, tmp_path: Path
) -> None:
    """Of 0.1, in which the sandbox was another module, and a connection had fewer fields."""
    path = tmp_path / "sandbox.state"
    path.write_bytes((Path(__file__).parent / "kept" / "0.1.state").read_bytes())
    box = await open_box(state_path=path, connections=3)
    truth = (await box.http.get("/_control/truth")).json()
    assert sorted(truth["states"].values()) == ["healthy", "healthy", "login lost"]
    assert all(records["eam/assets"] for records in truth["records"].values())


@pytest.mark.parametrize("content", [b"", b"rubbish", b"\x80\x05N.", b"cno.such\nthing\n."])
async def test_a_state_file_that_cannot_be_read_starts_a_new_world(
    open_box: Opens, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "sandbox.state"
    path.write_bytes(content)
    box = await open_box(state_path=path)
    assert len(await box.keys()) == 24


async def test_it_is_alive(box: Box) -> None:
    assert (await box.http.get("/healthz")).text == "ok"


def play_until(world: World, seconds: float) -> dict[float, Counter[str]]:
    """How many connections are in each state after each step of the demo."""
    states = {}
    for step in script(world):
        if step.at > seconds:
            break
        assert not states or step.at >= max(states)
        step.does()
        states[step.at] = Counter(c.state for c in world.connections.values())
    return states


def test_the_demo_is_a_day_with_its_night_and_ends_well() -> None:
    world = World(Settings(scenario="demo"))
    states = play_until(world, DAY_SECONDS)
    assert states[20] == Counter(healthy=23, offline=1)
    assert states[45] == Counter(healthy=22, offline=1) + Counter({"login lost": 1})
    assert [states[at]["offline"] for at in (90, 150, 175)] == [2, 1, 2]
    by_day = [at for at in states if at < NIGHT_FROM]
    assert max(states[at]["offline"] for at in by_day) >= 6
    assert states[max(by_day)] == Counter(healthy=23) + Counter({"login lost": 1})
    night = [at for at in states if NIGHT_FROM + 60 <= at < NIGHT_FROM + NIGHT_SECONDS]
    assert states[max(night)] == Counter(healthy=21) + Counter({"login lost": 2, "offline": 1})
    assert states[max(states)] == Counter(healthy=24)


def test_one_connection_of_the_demo_keeps_falling_over() -> None:
    world = World(Settings(scenario="demo"))
    falls: Counter[str] = Counter()
    before: set[str] = set()
    for step in script(world):
        if step.at > NIGHT_FROM:
            break
        step.does()
        down = {c.key for c in world.connections.values() if c.offline}
        falls.update(down - before)
        before = down
    assert sorted(falls.values())[-2:] == [1, 3]


@pytest.mark.parametrize("connections", [0, 1, 3, 24])
def test_a_demo_of_any_size_plays_and_mends_itself(connections: int) -> None:
    world = World(Settings(scenario="demo", connections=connections))
    play_until(world, 2 * DAY_SECONDS)
    assert all(c.state == "healthy" for c in world.connections.values())


def test_the_outage_takes_at_least_five_connections_of_one_provider() -> None:
    for seed in range(5):
        world = World(Settings(seed=seed))
        play_until(world, 250)
        down = Counter(c.provider.slug for c in world.connections.values() if c.offline)
        assert down.most_common(1)[0][1] >= 5
        assert max(down.values()) == sum(
            c.provider.slug == max(down, key=down.__getitem__) for c in world.connections.values()
        )


def test_a_calm_scenario_breaks_nothing_and_mends_what_it_broke() -> None:
    """While `linekeeper demo` leads, no other outage may become part of the one it shows."""
    world = World(Settings(scenario="demo"))
    for step in script(world):
        if step.at > DAY_SECONDS / 2:
            break
        world.calm = step.at > 60  # one login is lost and one system is away by then
        step.does()
        broken = sum(not connection.readable for connection in world.connections.values())
        assert broken <= 2, step.at
    assert broken == 0


async def test_the_scenario_is_calmed_by_a_control(open_box: Opens) -> None:
    box = await open_box(scenario="demo")
    for calm in (True, False):
        await box.http.post("/_control/scenario", json={"calm": calm})
        assert box.world.calm is calm


async def test_the_demo_plays_by_itself_at_any_speed(open_box: Opens) -> None:
    box = await open_box(scenario="demo", demo_speed=1_000.0)
    emitted = box.world.webhooks.counts
    while emitted["emitted"] < 20:
        await asyncio.sleep(0.01)
    kinds = {sent.event.split(".")[0] for sent in box.world.webhooks.log}
    while "connection" not in kinds:
        await asyncio.sleep(0.01)
        kinds = {sent.event.split(".")[0] for sent in box.world.webhooks.log}


async def test_a_fleet_of_ten_thousand_is_small_and_ends_with_its_signal() -> None:
    """10,000 connections and 1,000,000 records, each of them told once."""
    code = (
        "from sandbox import Settings, run\n"
        "run(Settings(port={port}, connections=10_000, records_per_connection=100))\n"
    )
    with socket.socket() as chooser:
        chooser.bind(("127.0.0.1", 0))
        port = chooser.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code.format(port=port), env={**os.environ}
    )
    try:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", timeout=60, verify=False
        ) as http:
            while True:
                try:
                    await http.get("/healthz")
                    break
                except httpx.ConnectError:
                    await asyncio.sleep(0.05)
            shown = (await http.get("/_control/connections")).json()["data"]
            assert len({c["name"] for c in shown}) == 10_000
            total = 0
            for connection in shown[:200]:
                truth = await http.get("/_control/truth", params={"connection": connection["key"]})
                records = truth.json()["records"][connection["key"]]
                total += sum(len(keys) for keys in records.values())
            assert total == 200 * 100
        assert psutil.Process(process.pid).memory_info().rss < 500 * 2**20
    finally:
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
