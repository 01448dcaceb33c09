"""The alerts, unit-tested by promtool; and a Prometheus that reads a running Linekeeper."""

import asyncio
import contextlib
import json
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.deploy.conftest import run
from tests.e2e.conftest import PARTS, ROOT, free_ports, started, until

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(
        not (shutil.which("promtool") and shutil.which("prometheus")),
        reason="not installed: prometheus. As root on Debian `make soak` installs it",
    ),
]
DEPLOY = ROOT / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
QUERIES = {
    (panel["title"], number): target["expr"]
    for panel in DASHBOARD["panels"]
    for number, target in enumerate(panel["targets"])
}


async def test_the_rules_and_the_configuration_are_valid_and_each_alert_is_raised_in_time() -> None:
    await run("promtool", "check", "config", DEPLOY / "prometheus.yaml")
    await run("promtool", "check", "rules", "--lint-fatal", DEPLOY / "prometheus-rules.yaml")
    await run("promtool", "test", "rules", DEPLOY / "prometheus-rules.test.yaml")
    [group] = yaml.safe_load((DEPLOY / "prometheus-rules.yaml").read_text())["groups"]
    tests = yaml.safe_load((DEPLOY / "prometheus-rules.test.yaml").read_text())["tests"]
    raised = {
        check["alertname"]
        for test in tests
        for check in test["alert_rule_test"]
        if check["exp_alerts"]
    }
    assert raised == {rule["alert"] for rule in group["rules"]}


@pytest.mark.e2e
async def test_a_prometheus_reads_what_runs_and_every_panel_shows_something(tmp_path: Path) -> None:
    ports = free_ports(*PARTS, "prometheus")
    options = ("--sandbox", "--scenario", "quiet", "--no-schedules", "--connections", "6")
    pace = {"LINEKEEPER_MAKINI_PER_MINUTE": "600"}
    async with started(tmp_path / "home", ports, *options, **pace) as house:
        receiver = f"127.0.0.1:{ports['receiver']}"
        async with _prometheus(tmp_path, receiver, ports["prometheus"]) as url:

            async def figures(query: str) -> list[Any]:
                answer = await house.http.get(f"{url}/api/v1/query", params={"query": query})
                answer.raise_for_status()
                said = answer.json()
                assert said["status"] == "success"
                return [one for one in said["data"]["result"] if one["value"][1] != "NaN"]

            for _ in range(2):  # the first adopts what the sandbox lists
                await house.trigger("health-sweep")
            truth = await house.http.get(f"{house.url('sandbox')}/_control/truth")
            await house.control(f"connections/{next(iter(truth.json()['records']))}/go-offline")
            for _ in range(3):
                await house.trigger("health-sweep")

            lacking = set(QUERIES)

            async def shown() -> bool:
                await house.control("records", change=6)
                lacking.difference_update([n for n in lacking if await figures(QUERIES[n])])
                return not lacking

            with contextlib.suppress(TimeoutError):
                await until(shown, seconds=240)
            assert not lacking
            assert float((await figures("linekeeper_consumers"))[0]["value"][1]) == 1
            assert await figures('linekeeper_connections{health="unreachable"} > 0')
            rules = (await house.http.get(f"{url}/api/v1/rules")).json()["data"]["groups"]
            health = {rule["name"]: rule["health"] for group in rules for rule in group["rules"]}
            assert len(health) == 6
            assert set(health.values()) <= {"ok", "unknown"}  # unknown: not evaluated yet


@asynccontextmanager
async def _prometheus(folder: Path, receiver: str, port: int) -> AsyncIterator[str]:
    """Debian's, with our configuration, reading every second; yields its URL."""
    configured = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text())
    configured["global"]["scrape_interval"] = "1s"
    configured["rule_files"] = [str(DEPLOY / name) for name in configured["rule_files"]]
    [job] = configured["scrape_configs"]
    job["static_configs"] = [{"targets": [receiver]}]
    config = folder / "prometheus.yaml"
    config.write_text(yaml.safe_dump(configured))
    with (folder / "prometheus.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}"

    async def ready() -> bool:
        assert process.returncode is None, (folder / "prometheus.log").read_text()
        with contextlib.suppress(httpx.HTTPError):
            return (await client.get(f"{url}/-/ready")).status_code == 200
        return False

    try:
        async with httpx.AsyncClient() as client:
            await until(ready, seconds=60, what="Prometheus")
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()
