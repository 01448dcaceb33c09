"""Steps of preflight: check, keep, show."""

import socket
from collections.abc import Sequence

from prefect import get_client, get_run_logger

from linekeeper.clock import utcnow
from linekeeper.preflight import evidence
from linekeeper.preflight.evidence import Source
from linekeeper.preflight.order import MAX_TARGETS, PreflightOrder, take_order
from linekeeper.preflight.page import preflight_markdown
from linekeeper.preflight.run import PreflightVerdicts, as_text, preflight
from linekeeper.store.engine import chunked
from tasks.report import put_artifact
from tasks.run import runtime
from tasks.task import task

PREFLIGHT = "preflight"


@task(
    name="check",
    task_run_name="check from {order.vantage}",
)
async def check(order: PreflightOrder) -> PreflightVerdicts:
    """Look at every target; a host that hangs costs its time-outs and no more."""
    report = await preflight(order, utcnow)
    get_run_logger().info("%s", as_text(report))
    return report


async def keep_report(report: PreflightVerdicts, *, source: Source, by: str) -> int:
    """Keep it as evidence; returns how many of its targets were new."""
    worker = worker_name() if source == "flow" else None
    return await evidence.keep(
        runtime().store, report, source=source, by=by, worker=worker, now=utcnow()
    )


def worker_name() -> str:
    """Whose vantage it is: this machine's name, or what its `LINEKEEPER_WORKER` says."""
    return runtime().settings.worker.strip() or socket.gethostname()


@task(name="plan-preflight", task_run_name="plan")
async def verified_orders(timeout: float, control: str) -> list[PreflightOrder]:
    """What was verified from here, as orders to check it again: one for each vantage."""
    async with runtime().store.read() as session:
        verified = await evidence.verified(session, worker_name())
    by_vantage: dict[str, list[str]] = {}
    for target, vantage in verified:
        by_vantage.setdefault(vantage, []).append(target)
    return [
        take_order(portion, vantage, timeout, control=control)
        for vantage, targets in by_vantage.items()
        for portion in chunked(targets, MAX_TARGETS)
    ]


@task(name="report-preflight", task_run_name="update preflight page")
async def report_preflight(reports: Sequence[PreflightVerdicts]) -> None:
    """Write the artifact `preflight`: the verdicts of this run."""
    async with runtime().store.read() as session:
        targets = {target for report in reports for target in report.targets}
        through = await evidence.tunnelled(session, targets)
    markdown = preflight_markdown(reports, through)
    async with get_client() as client:
        await put_artifact(client, PREFLIGHT, markdown, description="The last preflight")
