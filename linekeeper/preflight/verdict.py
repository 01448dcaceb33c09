"""Facts become verdicts. Pure: what a closed port means depends on where one stands.

`inside` the customer's network and from an `allowlisted` address the system must be reached;
from `outside` it must not: there an open port is the finding.
"""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from linekeeper.preflight.facts import DnsFact, HttpFact, TargetFacts, TcpFact, TlsFact
from linekeeper.preflight.targets import Target

Vantage = Literal["inside", "allowlisted", "outside"]
Check = Literal["dns", "tcp", "tls", "tls-chain", "tls-name", "tls-expiry", "http", "clock"]
Status = Literal["ok", "warning", "finding", "skipped"]
VANTAGES: tuple[Vantage, ...] = get_args(Vantage)

VERIFIES: dict[Vantage, str] = {
    "inside": "that a machine inside the customer's network reaches the system",
    "allowlisted": "that an address which the firewall allows reaches the system",
    "outside": "that the system is closed to the rest of the internet",
}
NOT_VERIFIED = "That Makini reaches it is verified only by Makini's own connection status."

_NOT_IN_NAMES = re.compile(r"[/%&<>\"']")


def vantage_queue(worker: str) -> str:
    """The work queue that only `worker` polls: a vantage belongs to the worker that has it."""
    return "vantage-" + _NOT_IN_NAMES.sub("-", worker)


EXPIRY_STEPS = (3, 14, 30)
"""Days before the end of a certificate at which people are warned."""
CLOCK_WARNING_SECONDS = 30
CLOCK_FINDING_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Verdict:
    """One check of one target, from one vantage, in words that say what to do."""

    target: str
    vantage: Vantage
    check: Check
    status: Status
    message: str
    ends: str | None = None
    """When the certificate that was seen ends, in ISO 8601; for the warnings ahead of it."""


def judge(
    target: Target, vantage: Vantage, facts: TargetFacts, now: datetime
) -> tuple[Verdict, ...]:
    """The verdicts on what was seen at `now` (aware), in the order of the checks."""
    checks = _from_outside(facts) if vantage == "outside" else _must_reach(target, facts, now)
    return tuple(
        Verdict(
            str(target),
            vantage,
            check,
            status,
            message,
            facts.tls.not_after.isoformat()
            if check == "tls-expiry" and facts.tls is not None and facts.tls.not_after is not None
            else None,
        )
        for check, status, message in checks
    )


_Result = tuple[Check, Status, str]


def _from_outside(facts: TargetFacts) -> Iterable[_Result]:
    if facts.dns is not None:
        yield "dns", ("warning" if facts.dns.unknown else "ok"), _named(facts.dns)
    if facts.tcp is None:
        if facts.dns is None or facts.dns.unknown:
            yield "tcp", "skipped", "Can't tell: the name couldn't be looked up."
        else:
            yield "tcp", "ok", "Not reachable from outside: there is no address to connect to."
        return
    open_at = [
        address
        for address, outcome in facts.tcp.outcomes
        if outcome == "open" and not is_inner(address)
    ]
    if open_at:
        yield (
            "tcp",
            "finding",
            f"Open from outside at {_list(open_at)}: anybody can connect. "
            "Close it for all but Makini's addresses.",
        )
    elif all(is_inner(address) for address, _ in facts.tcp.outcomes):
        addresses = _list(address for address, _ in facts.tcp.outcomes)
        yield (
            "tcp",
            "skipped",
            f"Can't tell: {addresses} is an inner address, which from outside leads elsewhere or "
            "nowhere. Check the one the firewall shows to the internet.",
        )
    elif all(outcome == "unreachable" for _, outcome in facts.tcp.outcomes):
        yield (
            "tcp",
            "skipped",
            "Can't tell: this machine has no route there. Is it on the internet?",
        )
    elif facts.control is not None:
        yield (
            "tcp",
            "skipped",
            f"Can't tell: this machine doesn't reach what is open either ({facts.control}), so "
            "that nothing came back says nothing. Check its own way out, or name a place that it "
            "must reach with --control.",
        )
    else:
        yield "tcp", "ok", f"Closed from outside, as it should be ({_outcomes(facts.tcp)})."


_INNER = tuple(
    ipaddress.ip_network(verdict)
    for verdict in (
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16"),
        *("fc00::/7", "fe80::/10"),
    )
)
"""Addresses that mean something within a network only (RFC 1918, 6598, 3927, 4193, 4291)."""


def is_inner(address: str) -> bool:
    """Total: the scope of a link-local address may be part of it."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return any(ip in network for network in _INNER)


def _must_reach(target: Target, facts: TargetFacts, now: datetime) -> Iterable[_Result]:
    if facts.dns is not None:
        yield "dns", ("ok" if facts.dns.addresses else "finding"), _named(facts.dns)
    if facts.tcp is None:
        yield "tcp", "skipped", "Not tried: there is no address."
        return
    yield _reached(target, facts.tcp)
    if facts.tls is not None:
        yield from _secured(target, facts.tls, now)
    if facts.http is not None:
        yield from _answered(facts.http)


def _reached(target: Target, tcp: TcpFact) -> _Result:
    open_at = [address for address, outcome in tcp.outcomes if outcome == "open"]
    if not open_at:
        return (
            "tcp",
            "finding",
            f"No connection to port {target.port} ({_outcomes(tcp)}). {_advice(tcp)}",
        )
    # An address family this machine doesn't have says nothing about the system.
    silent = [outcome for _, outcome in tcp.outcomes if outcome in {"refused", "timeout"}]
    if silent:
        return "tcp", "warning", f"Only some addresses answer ({_outcomes(tcp)})."
    return "tcp", "ok", f"Port {target.port} is open ({_list(open_at)})."


def _advice(tcp: TcpFact) -> str:
    outcomes = {outcome for _, outcome in tcp.outcomes}
    if "refused" in outcomes:
        return "The host is there, but nothing listens or a firewall rejects: check port and rule."
    if "timeout" in outcomes:
        return "Nothing came back: most likely a firewall drops it. Open the port on the way."
    return "There is no route: check network, VPN and address."


def _secured(target: Target, tls: TlsFact, now: datetime) -> Iterable[_Result]:
    if tls.error is not None:
        yield "tls", "finding", f"No TLS handshake: {tls.error}."
        return
    yield "tls", "ok", f"Speaks {tls.version or 'TLS'}."
    if tls.chain_error is None:
        yield "tls-chain", "ok", "This machine trusts the certificate's chain."
    else:
        yield (
            "tls-chain",
            "finding",
            f"The certificate isn't trusted: {tls.chain_error}. "
            "Install the whole chain, or name your own authority with --ca-file.",
        )
    if tls.name_error is None:
        yield "tls-name", "ok", f"The certificate is for {target.host}."
    else:
        yield "tls-name", "finding", f"The certificate isn't for {target.host}: {tls.name_error}."
    yield _dated(tls, now)


def _dated(tls: TlsFact, now: datetime) -> _Result:
    if tls.not_after is None:
        return "tls-expiry", "warning", "The certificate's dates can't be read."
    left = (tls.not_after - now).total_seconds() / 86400
    day = tls.not_after.date()
    if left <= 0:
        return "tls-expiry", "finding", f"The certificate expired on {day}. Renew it."
    if tls.not_before is not None and tls.not_before > now:
        since = tls.not_before.date()
        return "tls-expiry", "finding", f"The certificate is valid only from {since}. Check clocks."
    days = "1 day" if int(left) == 1 else f"{int(left)} days"  # this file runs without the others
    if left < EXPIRY_STEPS[-1]:
        return "tls-expiry", "warning", f"{days} left (until {day}). Renew it soon."
    return "tls-expiry", "ok", f"{days} left (until {day})."


def _answered(http: HttpFact) -> Iterable[_Result]:
    if http.error is not None:
        yield "http", "finding", f"No HTTP answer: {http.error}."
        return
    if http.status is not None and http.status >= 500:
        yield "http", "warning", f"Reached, but it answers {http.status}: see its own logs."
    else:
        yield "http", "ok", f"Answers {http.status}."
    if http.server_time is None or http.our_time is None:
        yield "clock", "skipped", "The answer has no date to compare with."
        return
    seconds = (http.server_time - http.our_time).total_seconds()
    where = "ahead of" if seconds > 0 else "behind"
    message = f"The system's clock is {abs(seconds):.0f} s {where} this machine's"
    if abs(seconds) > CLOCK_FINDING_SECONDS:
        yield "clock", "finding", f"{message}: set both by NTP, or signatures and TLS fail."
    elif abs(seconds) > CLOCK_WARNING_SECONDS:
        yield "clock", "warning", f"{message}: set both by NTP."
    else:
        yield "clock", "ok", f"{message}."


def _named(dns: DnsFact) -> str:
    if dns.addresses:
        return f"Resolves to {_list(dns.addresses)}."
    return f"The name doesn't resolve: {dns.error or 'no address'}."


def _outcomes(tcp: TcpFact) -> str:
    return ", ".join(f"{address} {outcome}" for address, outcome in tcp.outcomes)


def _list(items: Iterable[str]) -> str:
    return ", ".join(items)
