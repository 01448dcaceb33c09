"""Run the checks on all targets and judge them."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from linekeeper.preflight import checks
from linekeeper.preflight.facts import DnsFact, TargetFacts
from linekeeper.preflight.order import PreflightOrder
from linekeeper.preflight.targets import Target
from linekeeper.preflight.verdict import NOT_VERIFIED, VERIFIES, Vantage, Verdict, judge

VERSION = 1


@dataclass(frozen=True, slots=True)
class PreflightVerdicts:
    """All verdicts of one run. `at` is aware UTC, by the clock of the machine that checked."""

    vantage: Vantage
    at: datetime
    targets: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    version: int = VERSION

    @property
    def findings(self) -> tuple[Verdict, ...]:
        return tuple(verdict for verdict in self.verdicts if verdict.status == "finding")

    def of(self, target: str) -> list[dict[str, Any]]:
        """The verdicts on `target`, as plain values."""
        return [asdict(verdict) for verdict in self.verdicts if verdict.target == target]

    def passed(self, target: str) -> bool:
        """Whether `target` could be judged and nothing was found."""
        own = [verdict for verdict in self.verdicts if verdict.target == target]
        judged = any(verdict.check == "tcp" and verdict.status != "skipped" for verdict in own)
        return judged and all(verdict.status != "finding" for verdict in own)


def as_json(report: PreflightVerdicts) -> str:
    """The report, as `intake.parse_report` takes it back."""
    data: Mapping[str, object] = {
        "version": report.version,
        "vantage": report.vantage,
        "proves": VERIFIES[report.vantage],
        "not_proven": NOT_VERIFIED,
        "at": report.at.isoformat(),
        "passed": all(map(report.passed, report.targets)),
        "targets": list(report.targets),
        "verdicts": [asdict(verdict) for verdict in report.verdicts],
    }
    return json.dumps(data, indent=2)  # ASCII: whatever a shell makes of it on the way to a file


def as_text(report: PreflightVerdicts) -> str:
    """The report for people, without colours."""
    lines = [f"Preflight from {report.vantage}, {report.at:%Y-%m-%d %H:%M} UTC"]
    for target in report.targets:
        lines += ["", target]
        for verdict in report.verdicts:
            if verdict.target == target:
                lines.append(f"  {verdict.status:<8} {verdict.check:<10} {verdict.message}")
    count = len(report.findings)
    if count:
        result = f"{count} finding{'s'[: count != 1]}"
    elif all(map(report.passed, report.targets)):
        result = f"Verified: {VERIFIES[report.vantage]}"
    else:
        result = "No problem found, but not everything could be judged"
    lines += ["", f"{result}. {NOT_VERIFIED}"]
    return "\n".join(lines)


AT_ONCE = 16


def _utcnow() -> datetime:
    return datetime.now(UTC)


async def preflight(
    order: PreflightOrder, clock: Callable[[], datetime] = _utcnow
) -> PreflightVerdicts:
    """Check every target, a few at once, and judge what was seen.

    A target has at most four checks one after the other (DNS, TCP, TLS, HTTP), so its verdicts
    are there within four time-outs, whatever the hosts do.
    """
    free = asyncio.Semaphore(AT_ONCE)
    shut_in = await _shut_in(order)

    async def look_at(target: Target) -> TargetFacts:
        async with free:
            facts = await look(target, order.vantage, timeout=order.timeout, ca_file=order.ca_file)
        return replace(facts, control=shut_in)

    facts = await asyncio.gather(*map(look_at, order.targets))
    now = clock()
    return PreflightVerdicts(
        vantage=order.vantage,
        at=now,
        targets=tuple(map(str, order.targets)),
        verdicts=tuple(
            verdict
            for target, seen in zip(order.targets, facts, strict=True)
            for verdict in judge(target, order.vantage, seen, now)
        ),
    )


async def _shut_in(order: PreflightOrder) -> str | None:
    """Why a place that is open can't be reached from outside; None if it can, or needn't."""
    if order.vantage != "outside" or order.control is None:
        return None
    facts = await look(order.control, "outside", timeout=order.timeout, ca_file=None)
    if facts.tcp is None:
        return f"{order.control}: the name couldn't be looked up"
    outcomes = {outcome for _, outcome in facts.tcp.outcomes}
    return None if "open" in outcomes else f"{order.control}: {', '.join(sorted(outcomes))}"


async def look(
    target: Target, vantage: Vantage, *, timeout: float, ca_file: str | None
) -> TargetFacts:
    """What can be seen of one target; from outside no more than whether its port is open."""
    dns: DnsFact | None = None
    addresses: tuple[str, ...] = (target.host,)
    if not target.is_address:
        dns = await checks.resolve(target.host, target.port, timeout)
        addresses = dns.addresses
    if not addresses:
        return TargetFacts(dns=dns)
    tcp = await checks.connect(addresses, target.port, timeout)
    answers = next((address for address, outcome in tcp.outcomes if outcome == "open"), None)
    if answers is None or vantage == "outside":
        return TargetFacts(dns=dns, tcp=tcp)
    tls = http = None
    if target.tls:
        tls = await checks.handshake(target, answers, timeout, ca_file)
    if target.scheme is not None and (tls is None or tls.error is None):
        http = await checks.ask(target, answers, timeout)
    return TargetFacts(dns=dns, tcp=tcp, tls=tls, http=http)
