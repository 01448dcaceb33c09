"""`linekeeper preflight` as a customer's IT types it."""

import json
import socket
from collections.abc import Iterator

import pytest
import typer
from typer.testing import CliRunner

from linekeeper.cli.preflight import preflight_command

app = typer.Typer()
app.command("preflight")(preflight_command)


def run(*words: str):
    return CliRunner().invoke(app, [*words, "--timeout", "0.5"])


def test_a_finding_is_exit_code_1_and_names_its_vantage(closed_port):
    target = f"127.0.0.1:{closed_port}"
    result = run(target)
    assert result.exit_code == 1
    assert "Preflight from inside" in result.stdout
    assert "refused" in result.stdout
    data = json.loads(run(target, "--vantage", "allowlisted", "--json").stdout)
    assert data["passed"] is False
    assert {one["vantage"] for one in data["verdicts"]} == {"allowlisted"}


@pytest.fixture
def open_port() -> Iterator[int]:
    """A port that takes connections, as the place that shows that this machine gets out."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_nothing_found_is_exit_code_0_and_says_what_is_proven(closed_port, open_port):
    control = f"127.0.0.1:{open_port}"
    result = run(f"127.0.0.1:{closed_port}", "--vantage", "outside", "--control", control)
    assert result.exit_code == 0, result.output
    assert "Verified: that the system is closed to the rest of the internet." in result.stdout
    assert "only by Makini's own connection status" in result.stdout


def test_nothing_is_proven_from_a_machine_that_does_not_get_out(closed_port):
    control = f"127.0.0.1:{closed_port}"
    result = run(f"127.0.0.1:{closed_port}", "--vantage", "outside", "--control", control)
    assert "not everything could be judged" in result.stdout
    assert "that the system is closed" not in result.stdout


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ((), "target: give 1 to 200, not 0"),
        (("host",), "target: 'host' needs a port"),
        (("h:1", "--vantage", "moon"), "vantage: 'moon' is not one of"),
        (("h:1", "--ca-file", "/no/such"), "ca-file: /no/such: No such file"),
        (("--bundle", "/no/such/x"), "bundle: /no/such/x can't be written"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(words, line):
    result = run(*words)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"linekeeper preflight: {line}")
    assert result.stderr.count("\n") == 1


def test_a_bundle_can_be_written_to_send(tmp_path):
    result = run("--bundle", str(tmp_path / "preflight.pyz"))
    assert result.exit_code == 0
    assert (tmp_path / "preflight.pyz").stat().st_size > 1000
