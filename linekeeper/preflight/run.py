"""Run the checks on all targets and judge them."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from linekeeper.preflight import checks
from linekeeper.preflight.facts import DnsFact, Facts
from linekeeper.preflight.order import Order
from linekeeper.preflight.report import Report
from linekeeper.preflight.targets import Target
from linekeeper.preflight.verdict import Vantage, judge

AT_ONCE = 16


def _utcnow() -> datetime:
    return datetime.now(UTC)


async def preflight(order: Order, clock: Callable[[], datetime] = _utcnow) -> Report:
    """Check every target, a few at once, and judge what was seen.

    A target has at most four checks one after the other (DNS, TCP, TLS, HTTP), so its verdicts
    are there within four time-outs, whatever the hosts do.
    """
    free = asyncio.Semaphore(AT_ONCE)
    shut_in = await _shut_in(order)

    async def one(target: Target) -> Facts:
        async with free:
            facts = await look(target, order.vantage, timeout=order.timeout, ca_file=order.ca_file)
        return replace(facts, control=shut_in)

    facts = await asyncio.gather(*map(one, order.targets))
    now = clock()
    return Report(
        vantage=order.vantage,
        at=now,
        targets=tuple(map(str, order.targets)),
        verdicts=tuple(
            verdict
            for target, seen in zip(order.targets, facts, strict=True)
            for verdict in judge(target, order.vantage, seen, now)
        ),
    )


async def _shut_in(order: Order) -> str | None:
    """Why a place that is open can't be reached from outside; None if it can, or needn't."""
    if order.vantage != "outside" or order.control is None:
        return None
    facts = await look(order.control, "outside", timeout=order.timeout, ca_file=None)
    if facts.tcp is None:
        return f"{order.control}: the name couldn't be looked up"
    outcomes = {outcome for _, outcome in facts.tcp.outcomes}
    return None if "open" in outcomes else f"{order.control}: {', '.join(sorted(outcomes))}"


async def look(target: Target, vantage: Vantage, *, timeout: float, ca_file: str | None) -> Facts:
    """What can be seen of one target; from outside no more than whether its port is open."""
    dns: DnsFact | None = None
    addresses: tuple[str, ...] = (target.host,)
    if not target.is_address:
        dns = await checks.resolve(target.host, target.port, timeout)
        addresses = dns.addresses
    if not addresses:
        return Facts(dns=dns)
    tcp = await checks.connect(addresses, target.port, timeout)
    answers = next((address for address, outcome in tcp.outcomes if outcome == "open"), None)
    if answers is None or vantage == "outside":
        return Facts(dns=dns, tcp=tcp)
    tls = http = None
    if target.tls:
        tls = await checks.handshake(target, answers, timeout, ca_file)
    if target.scheme is not None and (tls is None or tls.error is None):
        http = await checks.ask(target, answers, timeout)
    return Facts(dns=dns, tcp=tcp, tls=tls, http=http)
