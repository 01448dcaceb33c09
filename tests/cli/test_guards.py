"""What keeps `up` from starting, said in one line."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from linekeeper.cli.guards import alone_in, require_auth_or_loopback, require_free_port
from linekeeper.refusal import UserError
from linekeeper.tls import is_loopback


def test_a_taken_port_is_named_with_its_setting() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} .*taken.*LINEKEEPER_PREFECT_PORT"):
            require_free_port("127.0.0.1", port, "PREFECT_PORT", "the Prefect server")
    require_free_port("127.0.0.1", port, "PREFECT_PORT", "the Prefect server")


def test_a_number_that_is_no_port_is_refused() -> None:
    with pytest.raises(UserError, match="a port is 1 to 65535, not 99999"):
        require_free_port("127.0.0.1", 99_999, "PREFECT_PORT", "the Prefect server")


def test_a_second_up_on_the_same_home_is_refused(tmp_path: Path) -> None:
    with (
        alone_in(tmp_path),
        pytest.raises(UserError, match=r"running already .*process \d+"),
        alone_in(tmp_path),
    ):
        pass
    with alone_in(tmp_path):
        pass


def test_an_up_that_was_killed_leaves_no_lock(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from linekeeper.cli.guards import alone_in\n"
        f"with alone_in(Path({str(tmp_path)!r})): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    with alone_in(tmp_path):
        pass


@pytest.mark.parametrize(
    ("host", "inside"),
    [
        ("127.0.0.1", True),
        ("127.8.0.1", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.5", False),
        ("example.com", False),
        ("", False),
    ],
)
def test_only_loopback_counts_as_this_machine(host: str, inside: bool) -> None:
    assert is_loopback(host) is inside


def test_a_server_the_network_reaches_needs_a_password() -> None:
    require_auth_or_loopback("127.0.0.1", {})
    require_auth_or_loopback("0.0.0.0", {"PREFECT_SERVER_API_AUTH_STRING": "admin:secret"})
    with pytest.raises(UserError, match="Set PREFECT_SERVER_API_AUTH_STRING"):
        require_auth_or_loopback("0.0.0.0", {"PREFECT_SERVER_API_AUTH_STRING": ""})
