"""`linekeeper plan` as an operator types it."""

import inspect
import json
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from linekeeper.cli.plan import plan_command

app = typer.Typer()
app.command("plan")(plan_command)
BASE = {"--complexity": "standard", "--kickoff": "2030-03-04"}


def run(*extra: str, **changed: str):
    given = {**BASE, **{f"--{name.replace('_', '-')}": value for name, value in changed.items()}}
    return CliRunner().invoke(app, [word for pair in given.items() for word in pair] + [*extra])


@pytest.mark.parametrize("hosting", ["cloud", "on-premises", "self-hosted"])
def test_json_has_the_promised_names(hosting):
    result = run("--json", hosting=hosting)
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    assert set(data["weeks"]) == {"min", "max", "p50", "p80"}
    assert data["published"] == {"min": 1, "max": 2}
    assert data["beyond_published"] is False
    assert set(data["go_live"]) == {"p50", "p80"}
    assert data["gates"][-1]["id"] == "go-live"


def test_a_larger_scope_says_so_and_why():
    data = json.loads(run("--json", complexity="enterprise", systems="20").stdout)
    assert data["beyond_published"] is True
    assert data["weeks"]["max"] > 10
    assert "20 systems" in data["beyond_because"][0]
    assert "Outside the published weeks: 20 systems" in run(systems="20").stdout


def test_the_table_shows_gates_dates_and_the_traditional_project():
    result = run(country="de", committed="2030-03-22")
    assert result.exit_code == 0, result.output
    for words in ("Authentication set up", "customer", "2 to 24 months", "Committed 2030-03-22"):
        assert words in result.stdout


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"complexity": "huge"}, "complexity: 'huge' is not one of standard, custom, enterprise"),
        ({"hosting": "moon"}, "hosting: 'moon' is not one of cloud, on-premises, self-hosted"),
        ({"systems": "0"}, "systems: 0 is outside 1 to 50"),
        ({"systems": "500"}, "systems: 500 is outside 1 to 50"),
        ({"systems": "x"}, "systems: 'x' is not a whole number"),
        ({"custom_workflows": "-1"}, "custom_workflows: -1 is outside 0 to 50"),
        ({"kickoff": "2020-01-06"}, "kickoff: 2020-01-06 is in the past"),
        ({"kickoff": "soon"}, "kickoff: 'soon' is not a date"),
        ({"country": "XX"}, "country: XX is not a country whose holidays are known"),
        ({"committed": "2030-01-01"}, "committed: 2030-01-01 is before the kickoff"),
        ({"templates": "/no/such"}, "templates: /no/such is not a directory"),
        ({"svg": "/no/such/file"}, "svg: /no/such/file can't be written"),
    ],
)
def test_bad_input_is_one_line_with_field_and_reason_and_exit_code_2(changed, line):
    result = run(**changed)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"linekeeper plan: {line}")
    assert result.stderr.count("\n") == 1


def test_a_teams_own_bad_template_is_named_with_its_field(tmp_path):
    (tmp_path / "standard.yaml").write_text("complexity: standard\ngates: []\n")
    result = run(templates=str(tmp_path))
    assert result.exit_code == 2
    assert result.stderr.startswith("linekeeper plan: standard.yaml published: field required")


def test_the_chart_is_written_where_it_is_asked_for(tmp_path):
    assert run(svg=str(tmp_path / "plan.svg")).exit_code == 0
    assert (tmp_path / "plan.svg").read_text().startswith("<svg")


def test_importing_the_command_loads_none_of_the_heavy_libraries():
    module = inspect.getfile(plan_command)
    code = f"import runpy, sys; runpy.run_path({module!r}); print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout.split()
    assert not {"numpy", "holidays", "pydantic", "yaml", "prefect", "sqlalchemy"} & set(loaded)


def test_h2_the_plan_gives_the_technical_requirements_before_any_host_is_known(tmp_path):
    data = json.loads(run("--json", "--vpn", "--product", "SAP ECC", hosting="on-premises").stdout)
    asked = data["technical_requirements"]
    assert data["vpn"] is asked["vpn"] is True
    assert [port["port"] for port in asked["ports"][0]["ports"]] == ["443NN", "33NN"]
    assert asked["makini"]["dated"] == "2025-05-16"
    assert "15.204.75.108/32" in asked["makini"]["addresses"]
    assert any("VPN tunnel" in item for item in asked["items"])
    [vpn] = [gate for gate in data["gates"] if gate["id"] == "vpn"]
    assert (vpn["owner"], vpn["critical"]) == ("customer", True)
    assert "vpn" in next(gate for gate in data["gates"] if gate["id"] == "network")["needs"]

    shown = run(hosting="self-hosted").stdout
    assert "A machine inside your network for Makini" in shown
    assert "15.204" not in shown
    own = tmp_path / "network.json"
    own.write_text('{"dated": "2027-01-02", "source": "mail", "addresses": ["192.0.2.7"]}')
    shown = run("--network-file", str(own), hosting="on-premises").stdout
    assert "192.0.2.7/32" in shown
    assert "15.204" not in shown
    assert "Maximo: 9443 TLS" in shown


def test_a_tunnel_to_a_self_hosted_installation_and_a_broken_file_are_refused(tmp_path):
    refused = run("--vpn", hosting="self-hosted")
    assert (refused.exit_code, "vpn: a self-hosted" in refused.output) == (2, True)
    own = tmp_path / "network.json"
    own.write_text("[")
    refused = run("--network-file", str(own))
    assert (refused.exit_code, "network-file: " in refused.output) == (2, True)
