"""Preflight against real peers: whatever they do, a verdict comes within the time-outs."""

import ast
import asyncio
import json
import socket
import subprocess
import sys
import threading
import zipfile
from datetime import UTC, datetime, timedelta

import pytest

from linekeeper.preflight import checks
from linekeeper.preflight.bundle import write_bundle
from linekeeper.preflight.facts import TargetFacts, TcpFact
from linekeeper.preflight.intake import parse_report
from linekeeper.preflight.order import DEFAULT_CONTROL, take_order
from linekeeper.preflight.run import PreflightVerdicts, as_json, preflight
from linekeeper.preflight.targets import parse_target
from linekeeper.preflight.verdict import judge

from .conftest import answer_ok, drip, say_nothing, saying

IMPATIENT = 0.4
"""Seconds, for peers that never answer; those that do get time enough on a slow machine."""


async def run(
    target: str,
    vantage: str = "inside",
    *,
    ca_file: str | None = None,
    timeout: float = 20,
    control: str = "",
) -> PreflightVerdicts:
    order = take_order([target], vantage, timeout, ca_file, control or DEFAULT_CONTROL)
    # Four checks one after the other, and room for a slow machine.
    return await asyncio.wait_for(preflight(order), 4 * timeout + 20)


def statuses(report: PreflightVerdicts) -> dict[str, str]:
    assert all(verdict.vantage == report.vantage for verdict in report.verdicts)
    return {verdict.check: verdict.status for verdict in report.verdicts}


def message(report: PreflightVerdicts, check: str) -> str:
    return next(verdict.message for verdict in report.verdicts if verdict.check == check)


async def test_inside_an_open_port_is_right_and_a_closed_one_a_finding(serve, closed_port):
    port = await serve(say_nothing)
    assert statuses(await run(f"127.0.0.1:{port}")) == {"tcp": "ok"}
    report = await run(f"127.0.0.1:{closed_port}")
    assert statuses(report) == {"tcp": "finding"}
    assert "refused" in message(report, "tcp")


async def test_an_allowlisted_address_must_reach_like_inside(serve, closed_port):
    port = await serve(say_nothing)
    assert (await run(f"127.0.0.1:{port}", "allowlisted")).findings == ()
    assert (await run(f"127.0.0.1:{closed_port}", "allowlisted")).findings != ()


async def test_outside_an_open_port_is_the_finding_and_a_closed_one_right(serve, closed_port):
    port = await serve(say_nothing)
    report = await run(f"https://127.0.0.1:{port}", "outside")
    assert statuses(report) == {"tcp": "finding"}
    assert "anybody can connect" in message(report, "tcp")
    closed = await run(f"127.0.0.1:{closed_port}", "outside", control=f"127.0.0.1:{port}")
    assert statuses(closed) == {"tcp": "ok"}


async def test_a_port_behind_a_firewall_that_drops_times_out(silent_port, serve):
    report = await run(f"127.0.0.1:{silent_port}", timeout=IMPATIENT)
    assert statuses(report) == {"tcp": "finding"}
    assert "timeout" in message(report, "tcp")
    target, control = f"127.0.0.1:{silent_port}", f"127.0.0.1:{await serve(say_nothing)}"
    report = await run(target, "outside", timeout=5, control=control)
    assert statuses(report) == {"tcp": "ok"}


async def test_from_outside_a_time_out_proves_nothing_where_our_own_way_out_is_dropped(silent_port):
    target = f"127.0.0.1:{silent_port}"
    report = await run(target, "outside", timeout=IMPATIENT, control=target)
    assert statuses(report) == {"tcp": "skipped"}
    assert "doesn't reach what is open either" in message(report, "tcp")
    assert not report.passed(target)


async def test_a_name_that_does_not_exist_is_a_finding_inside():
    report = await run("no-such-host.invalid:443")
    assert statuses(report) == {"dns": "finding", "tcp": "skipped"}
    assert not report.passed("no-such-host.invalid:443")


async def test_a_resolver_that_hangs_gives_a_verdict_and_proves_nothing_outside(monkeypatch):
    release = threading.Event()

    def hanging(*_: object, **__: object) -> list[object]:
        release.wait(30)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    try:
        report = await run("slow.example:443", "outside", timeout=IMPATIENT)
    finally:
        release.set()
    assert statuses(report) == {"dns": "warning", "tcp": "skipped"}
    assert not report.passed("slow.example:443")


async def test_a_good_certificate_passes_by_chain_name_and_days(serve, authority):
    port = await serve(answer_ok, authority.server())
    report = await run(f"https://localhost:{port}/", ca_file=authority.file)
    assert statuses(report) == {
        "dns": "ok",
        "tcp": "ok",
        "tls": "ok",
        "tls-chain": "ok",
        "tls-name": "ok",
        "tls-expiry": "ok",
        "http": "ok",
        "clock": "ok",
    }
    assert message(report, "tls-expiry").startswith("90 days left")
    assert "401" in message(report, "http")


async def test_whichever_python_looks_a_certificate_without_key_identifiers_passes(
    serve, authority
):
    port = await serve(answer_ok, authority.server(is_strict=False))
    report = await run(f"https://localhost:{port}/", ca_file=authority.file)
    assert statuses(report)["tls-chain"] == "ok"


async def test_an_expired_certificate_is_a_finding_of_its_date_alone(serve, authority):
    port = await serve(answer_ok, authority.server(days=-3))
    report = await run(f"https://localhost:{port}", ca_file=authority.file)
    assert [finding.check for finding in report.findings] == ["tls-expiry"]
    day = (datetime.now(UTC) - timedelta(days=3, minutes=-5)).date()
    assert f"expired on {day}" in message(report, "tls-expiry")


async def test_a_certificate_that_ends_soon_is_a_warning(serve, authority):
    port = await serve(answer_ok, authority.server(days=10))
    report = await run(f"https://localhost:{port}", ca_file=authority.file)
    assert statuses(report)["tls-expiry"] == "warning"
    assert report.findings == ()


async def test_a_certificate_of_the_future_is_a_finding(serve, authority):
    port = await serve(answer_ok, authority.server(since=2))
    report = await run(f"https://localhost:{port}", ca_file=authority.file)
    assert [finding.check for finding in report.findings] == ["tls-expiry"]


async def test_a_certificate_for_another_name_is_a_finding(serve, authority):
    port = await serve(answer_ok, authority.server("erp.example.com"))
    report = await run(f"https://localhost:{port}", ca_file=authority.file)
    assert [incident_change.check for incident_change in report.findings] == ["tls-name"]


async def test_an_untrusted_chain_is_told_apart_from_a_wrong_name(serve, authority):
    port = await serve(answer_ok, authority.server())
    report = await run(f"https://localhost:{port}")
    assert [finding.check for finding in report.findings] == ["tls-chain"]
    port = await serve(answer_ok, authority.server("other", self_signed=True, days=-1))
    report = await run(f"https://localhost:{port}")
    assert [finding.check for finding in report.findings] == ["tls-chain", "tls-name", "tls-expiry"]


async def test_a_peer_that_never_shakes_hands_is_a_finding(serve):
    port = await serve(say_nothing)
    report = await run(f"https://127.0.0.1:{port}", timeout=IMPATIENT)
    assert statuses(report) == {"tcp": "ok", "tls": "finding"}
    assert "no answer within" in message(report, "tls")


@pytest.mark.parametrize("rubbish", [b"\x00\xff" * 4000, b"SSH-2.0-x\r\n", b""])
async def test_rubbish_instead_of_tls_is_a_finding(serve, rubbish):
    port = await serve(saying(rubbish))
    assert statuses(await run(f"https://127.0.0.1:{port}")) == {"tcp": "ok", "tls": "finding"}


@pytest.mark.parametrize(
    "rubbish",
    [
        b"",
        b"\x00\xff\r\n\r\n",
        b"SSH-2.0-x\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 2\xb200 x\r\n\r\n",
        b"a" * 100_000,
        b"HTTP/1.1\r\n\r\n",
    ],
)
async def test_rubbish_instead_of_http_is_a_finding(serve, rubbish):
    port = await serve(saying(rubbish))
    assert statuses(await run(f"http://127.0.0.1:{port}")) == {"tcp": "ok", "http": "finding"}


@pytest.mark.parametrize("handler", [say_nothing, drip])
async def test_an_answer_that_never_ends_is_cut_off(serve, handler):
    port = await serve(handler)
    report = await run(f"http://127.0.0.1:{port}", timeout=IMPATIENT)
    assert statuses(report) == {"tcp": "ok", "http": "finding"}
    assert "no answer within" in message(report, "http")


async def test_a_server_error_is_reached_all_the_same(serve):
    port = await serve(saying(b"HTTP/1.1 503 Busy\r\nDate: rubbish\r\n\r\n"))
    report = await run(f"http://127.0.0.1:{port}")
    assert statuses(report) == {"tcp": "ok", "http": "warning", "clock": "skipped"}


@pytest.mark.parametrize(
    ("date", "status"),
    [
        ("Mon, 01 Mar 2027 10:00:10 GMT", "ok"),
        ("Mon, 01 Mar 2027 10:01:30 -0000", "warning"),
        ("Mon, 01 Mar 2027 09:00:00 GMT", "finding"),
        ("Mon, 99 Mar 2027 09:00:00 GMT", "skipped"),
    ],
)
async def test_a_clock_that_differs_is_judged_by_how_much(date, status):
    now = datetime(2027, 3, 1, 10, tzinfo=UTC)
    head = f"HTTP/1.1 200 OK\r\nDate: {date}\r\n\r\n".encode()
    facts = TargetFacts(tcp=TcpFact((("192.0.2.1", "open"),)), http=checks.read_head(head, now))
    verdicts = judge(parse_target("http://192.0.2.1"), "inside", facts, now)
    assert {wanted.check: wanted.status for wanted in verdicts}["clock"] == status


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("10.1.2.3", "skipped"),
        ("192.168.0.9", "skipped"),
        ("fd00::7", "skipped"),
        ("fe80::1%eth0", "skipped"),
        ("198.51.100.7", "ok"),
        ("2001:db8::7", "ok"),
    ],
)
async def test_from_outside_an_inner_address_proves_nothing(address, status):
    facts = TargetFacts(tcp=TcpFact(((address, "timeout"),)))
    [verdict] = judge(parse_target("erp.example:443"), "outside", facts, datetime.now(UTC))
    assert (verdict.check, verdict.status) == ("tcp", status)
    assert ("inner address" in verdict.message) is (status == "skipped")
    opened = TargetFacts(tcp=TcpFact(((address, "open"),)))
    [verdict] = judge(parse_target("erp.example:443"), "outside", opened, datetime.now(UTC))
    assert verdict.status == ("skipped" if status == "skipped" else "finding")


async def test_the_report_comes_back_as_it_was_written(serve):
    port = await serve(answer_ok)
    report = await run(f"http://127.0.0.1:{port}/a?b=1")
    assert parse_report(as_json(report).encode()) == report


def test_the_bundle_runs_alone_with_nothing_installed(tmp_path, closed_port):
    bundle = tmp_path / "preflight.pyz"
    write_bundle(bundle)
    first = bundle.read_bytes()
    write_bundle(bundle)
    assert bundle.read_bytes() == first
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(bundle), f"127.0.0.1:{closed_port}", "--json"],
        capture_output=True,
        cwd=tmp_path,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["passed"] is False
    assert parse_report(done.stdout).findings[0].check == "tcp"


def test_the_bundle_tells_an_old_python_what_is_missing(tmp_path):
    bundle = tmp_path / "preflight.pyz"
    write_bundle(bundle)
    with zipfile.ZipFile(bundle) as archive:
        start = archive.read("__main__.py").decode()
    ast.parse(start, feature_version=(3, 4))  # or it would be a syntax error there
    old = "import sys, runpy; sys.version_info = (3, 9, 2); runpy.run_path(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", old, str(bundle), "127.0.0.1:1"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("preflight needs Python 3.11 or newer, and this is 3.9. ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "ascii"])
async def test_a_report_is_read_however_a_shell_wrote_it_to_a_file(encoding, closed_port):
    report = await run(f"127.0.0.1:{closed_port}")
    assert parse_report(as_json(report).encode(encoding)) == report
