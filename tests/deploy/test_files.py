"""What is in `deploy/` names commands, settings and figures that exist."""

import json
import re
import shlex
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from linekeeper.clock import utcnow
from linekeeper.config import AppConfig, Configuration
from linekeeper.receiver.pages import of_receiver
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.views.gauges import exposition, read_gauges
from tests.docs.test_commands import ours, parse

DEPLOY = Path(__file__).parents[2] / "deploy"
OTHERS = {"postgres", "redis-server", "nginx", "export"}
KNOWN = {f"LINEKEEPER_{name.upper()}" for name in Settings.model_fields} | {
    "LINEKEEPER_SECRETS_DIR"
}
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))


def check(command: str) -> None:
    """`linekeeper …` and `prefect worker start …`, also inside `sh -c`, also one after another."""
    words = shlex.split(command)
    if "&&" in words:
        for part in command.split("&&"):
            check(part)
        return
    if words[:1] == ["exec"]:
        words = words[1:]
    if words[0] in OTHERS:
        return
    if words[:2] in (["sh", "-c"], ["/bin/sh", "-c"]):
        for part in words[2].split("&&"):
            check(part)
        return
    words[0] = words[0].removeprefix("/opt/linekeeper/bin/")
    if (arguments := ours(words)) is not None:
        parse(arguments)
    else:
        assert Path(words[0]).name == "prefect", command
        assert words[1:3] in (["worker", "start"], ["server", "start"]), command


def test_nothing_that_is_kept_is_ignored_for_the_wheel_leaves_out_what_git_ignores() -> None:
    if not (DEPLOY.parent / ".git").exists():
        pytest.skip("this is no checkout")
    kept = subprocess.run(
        ["git", "ls-files", "--cached", "--ignored", "--exclude-standard"],
        cwd=DEPLOY.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert kept.stdout == ""


def test_every_command_and_setting_of_the_compose_file_exists() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    commands = [value["command"] for value in compose["services"].values() if "command" in value]
    assert len(commands) == 11
    for command in commands:
        check(command)
    for service in compose["services"].values():
        for name in service.get("environment", {}):
            if name.startswith("LINEKEEPER_"):
                assert name in KNOWN
    for name, service in compose["services"].items():
        assert set(service.get("secrets", [])) <= set(compose["secrets"]), name
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert not source.startswith("./") or (DEPLOY / source).is_file(), name


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_every_command_of_a_unit_exists(unit: Path) -> None:
    text = unit.read_text()
    for command in re.findall(r"^ExecStart=(.*)$", text, re.M):
        check(command.replace("%%", "%").replace("$$", "$"))
    for name in re.findall(r"\b(LINEKEEPER_[A-Z_]+)=", text):
        assert name in KNOWN, name
    assert "\nUMask=0077\n" in text


def test_the_receiver_of_the_units_listens_where_others_send_to() -> None:
    lines = (DEPLOY / "systemd/environment").read_text().splitlines()
    variables = dict(line.split("=", maxsplit=1) for line in lines if line and line[0] != "#")
    inside = urlsplit(variables["LINEKEEPER_INTERNAL_URL"])
    assert variables.get("LINEKEEPER_RECEIVER_HOST", "127.0.0.1") == inside.hostname
    assert f"server {inside.netloc} " in (DEPLOY / "nginx.conf").read_text()


def test_prefects_settings_are_the_same_for_compose_and_for_systemd() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    lines = (DEPLOY / "systemd/prefect-environment").read_text().splitlines()
    variables = dict(line.split("=", maxsplit=1) for line in lines if line and line[0] != "#")
    wanted = compose["services"]["prefect"]["environment"]
    set_by_others = {"PREFECT_PROFILES_PATH", "PREFECT_SERVER_UI_STATIC_DIRECTORY"}
    assert set(variables) - {"PREFECT_SERVER_API_HOST"} == set(wanted) - set_by_others
    for name, value in wanted.items():
        if value.startswith("prefect_redis.") or "," in value:
            assert variables[name] == value


async def test_every_figure_the_dashboard_and_the_alerts_ask_for_is_served(store: Store) -> None:
    configuration = Configuration(apps={"default": AppConfig()})
    served = exposition(await read_gauges(store, configuration, now=utcnow())) + of_receiver()
    names = set(re.findall(r"^# TYPE (\w+) ", served.decode(), re.M))
    names |= {f"{name}_{part}" for name in names for part in ("bucket", "sum", "count", "total")}
    dashboard = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    rules = yaml.safe_load((DEPLOY / "prometheus-rules.yaml").read_text())
    asked += [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    wanted = {name for one in asked for name in re.findall(r"\blinekeeper_\w+", one)}
    assert wanted <= names
    assert len(dashboard["panels"]) == len({panel["id"] for panel in dashboard["panels"]})
