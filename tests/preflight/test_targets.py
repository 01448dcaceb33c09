"""Targets, orders and reports from outside: accepted, or refused in one clear line."""

import json
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linekeeper.preflight.checks import read_head, validity
from linekeeper.preflight.facts import DnsFact, TargetFacts, TcpFact, TlsFact
from linekeeper.preflight.intake import ReportError, parse_report
from linekeeper.preflight.order import OrderError, take_order
from linekeeper.preflight.run import PreflightVerdicts, as_json
from linekeeper.preflight.targets import Target, TargetError, parse_target
from linekeeper.preflight.verdict import VANTAGES, Status, Verdict, judge

NOW = datetime(2027, 3, 1, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("erp.example.com:8443", Target("erp.example.com", 8443)),
        ("ERP.Example.com.:443", Target("erp.example.com", 443)),
        ("[2001:DB8::1]:443", Target("2001:db8::1", 443)),
        ("https://münchen.example/x?y=1", Target("xn--mnchen-3ya.example", 443, "https", "/x?y=1")),
        ("http://10.0.0.1", Target("10.0.0.1", 80, "http", "/")),
        ("sap_ecc-1:44300", Target("sap_ecc-1", 44300)),
    ],
)
def test_a_host_with_port_or_a_url_is_a_target(text, target):
    assert parse_target(text) == target
    assert parse_target(str(target)) == target


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host",
        "host:0",
        "host:65536",
        "host:x",
        ":443",
        "a b:443",
        "host:443/path",
        "ftp://host:21",
        "https://user:secret@host/",
        "https://host/\r\nX: y",
        "$(id):443",
        "-x:443",
        "1.2.3:443",
        "host;id:443",
        "[::1:443",
        "a" * 600 + ":443",
        "ho`st:443",
        "https://host/`id`",
    ],
)
def test_anything_else_is_refused(text):
    with pytest.raises(TargetError) as caught:
        parse_target(text)
    assert "secret" not in str(caught.value)
    assert str(caught.value).isprintable()


@given(st.text() | st.from_regex(r"(https?://)?[^/]{1,20}:[0-9]{1,6}(/.*)?"))
def test_any_text_is_a_target_or_refused_and_a_target_reads_back(text):
    try:
        target = parse_target(text)
    except TargetError:
        return
    assert parse_target(str(target)) == target
    assert str(target).isascii()
    assert not set(str(target)) & set(' "\\<>`{}|^\r\n\t')


def test_only_conventional_ports_and_https_urls_must_speak_tls():
    assert parse_target("h:443").tls
    assert parse_target("h:44311").tls
    assert parse_target("https://h:1234").tls
    assert not parse_target("h:1433").tls
    assert not parse_target("http://h:443").tls


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"targets": []}, "target"),
        ({"targets": ["x"]}, "target"),
        ({"targets": [f"h{n}:1" for n in range(201)]}, "target"),
        ({"vantage": "moon"}, "vantage"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"timeout": 1e9}, "timeout"),
        ({"ca_file": "/no/such/file"}, "ca-file"),
        ({"ca_file": __file__}, "ca-file"),
    ],
)
def test_a_bad_order_is_refused_with_field_and_reason(changes, field):
    with pytest.raises(OrderError, match=f"^{field}: "):
        take_order(**{"targets": ["h:1"], "vantage": "inside", **changes})


def test_every_bad_target_is_named():
    with pytest.raises(OrderError) as refused:
        take_order(["first bad", "h:1", "h:99999", "third bad"], "inside")
    for named in ("first bad", "99999", "third bad"):
        assert named in str(refused.value), refused.value


def report() -> PreflightVerdicts:
    target = parse_target("h:443")
    facts = TargetFacts(
        dns=DnsFact(("192.0.2.1",)), tcp=TcpFact((("192.0.2.1", "open"),)), tls=TlsFact(error="x")
    )
    return PreflightVerdicts("inside", NOW, (str(target),), judge(target, "inside", facts, NOW))


def test_a_report_reads_back():
    assert parse_report(as_json(report()).encode()) == report()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"version": 2}, "version"),
        ({"vantage": "moon"}, "vantage"),
        ({"at": "2027-03-01T10:00:00"}, "at"),
        ({"targets": []}, "targets"),
        ({"targets": ["h:443", "i:443"]}, "verdicts"),
        ({"targets": ["<b>"]}, "targets"),
        ({"targets": ["H:443"]}, "targets"),
        ({"verdicts": []}, "verdicts"),
        ({"vantage": "outside"}, "verdicts"),
        ({"passed": True}, "passed"),
    ],
)
def test_a_report_that_does_not_hang_together_is_refused(change, what):
    data = {**json.loads(as_json(report())), **change}
    with pytest.raises(ReportError, match=rf"(^|\(){what}\b"):
        parse_report(json.dumps(data).encode())


def test_a_report_with_two_verdicts_of_one_check_is_refused():
    data = json.loads(as_json(report()))
    data["verdicts"].append({**data["verdicts"][0], "status": "finding"})
    with pytest.raises(ReportError, match="has 2 on"):
        parse_report(json.dumps(data).encode())


@pytest.mark.parametrize(("status", "taken"), [("ok", False), ("skipped", True)])
def test_from_outside_nothing_is_told_of_an_inner_address(status: Status, taken: bool):
    target = "10.0.0.5:44300"
    reported = Verdict(target, "outside", "tcp", status, "closed")
    sent = as_json(PreflightVerdicts("outside", NOW, (target,), (reported,))).encode()
    if taken:
        assert parse_report(sent).verdicts == (reported,)
    else:
        with pytest.raises(ReportError, match="inner address"):
            parse_report(sent)


def test_a_report_without_its_tcp_verdict_is_refused():
    data = json.loads(as_json(report()))
    data["verdicts"] = [
        connection for connection in data["verdicts"] if connection["check"] != "tcp"
    ]
    with pytest.raises(ReportError, match="tcp"):
        parse_report(json.dumps(data).encode())


@given(st.binary() | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["version", "targets", "verdicts", "at", "vantage"]), inner),
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_any_bytes_are_a_report_or_refused(data):
    with pytest.raises(ReportError):
        parse_report(data)


def test_a_report_over_the_limit_is_refused():
    with pytest.raises(ReportError, match="1024 KB"):
        parse_report(b" " * (1024 * 1024 + 1))


@given(st.binary())
def test_any_bytes_have_a_head_and_dates_or_none(data):
    read_head(data, NOW)
    validity(data)


@given(st.integers(0, 400), st.integers(0, 255))
def test_a_damaged_certificate_has_dates_or_none(authority_der, place, byte):
    damaged = bytearray(authority_der)
    damaged[place % len(damaged)] = byte
    validity(bytes(damaged))


@pytest.fixture(scope="module")
def authority_der(authority):
    return ssl.PEM_cert_to_DER_cert(Path(authority.file).read_text())


def test_the_dates_are_those_of_the_certificate(authority, authority_der):
    certificate = authority.certificate
    assert validity(authority_der) == (
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
    )


outcomes = st.sampled_from(["open", "refused", "timeout", "unreachable"])


@given(
    st.sampled_from(VANTAGES),
    st.lists(outcomes, min_size=1, max_size=4).map(
        lambda found: TcpFact(tuple((f"192.0.2.{n}", one) for n, one in enumerate(found)))
    ),
)
def test_a_port_is_a_finding_exactly_where_it_must_not_be_so(vantage, tcp):
    is_open = any(outcome == "open" for _, outcome in tcp.outcomes)
    (verdict,) = judge(Target("h", 1), vantage, TargetFacts(tcp=tcp), NOW)
    assert verdict.vantage == vantage
    assert (verdict.status == "finding") == (is_open == (vantage == "outside"))
