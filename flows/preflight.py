"""Check from here whether customers' systems are reachable, as they must or must not be."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import Field

from flows.form import form
from linekeeper.clock import utcnow
from linekeeper.implementation.watch import advance_targets
from linekeeper.preflight.ageing import conclude_ageing
from linekeeper.preflight.evidence import (
    NoSuchSystem,
    conclude_drift,
    find_named_targets,
    name_target,
    other_workers,
    unowned_targets,
)
from linekeeper.preflight.intake import ReportError, parse_report
from linekeeper.preflight.order import DEFAULT_CONTROL, OrderError, take_order
from linekeeper.preflight.run import PreflightVerdicts
from linekeeper.preflight.verdict import vantage_queue
from linekeeper.refusal import Refusal
from linekeeper.runtime import Runtime
from linekeeper.text import counted, sentences
from tasks.graph import follow
from tasks.implementation import publish
from tasks.preflight import check, keep_report, report_preflight, verified_orders, worker_name
from tasks.run import completed, is_paused, open_runtime, paused, refused, rename, skipped
from tasks.vantages import Sent, send_vantages

_FIELDS = {"target": "targets"}
"""What the form calls a field of an order, where it calls it otherwise."""


@flow(name="preflight", flow_run_name="preflight", retries=0)
@form
async def preflight(
    system: Annotated[
        str,
        Field(
            title="System",
            description="`Customer · System`, or a customer, of an implementation. Everything "
            "empty: what was verified is checked again",
            examples=["Acme · SAP ECC"],
        ),
    ] = "",
    targets: Annotated[
        list[str],
        Field(
            title="Hosts and ports",
            description="host:port or URL; empty: those of the system",
            examples=[["erp.acme.example:44300"]],
        ),
    ] = [],  # noqa: B006  a form's default; never changed
    vantage: Annotated[
        Literal["inside", "allowlisted", "outside"],
        Field(
            title="Vantage",
            description="Where the worker is: inside the customer's network, at an address its "
            "firewall allows, or outside, from where nothing may be open",
        ),
    ] = "inside",
    control: Annotated[
        str,
        Field(
            title="Open place",
            description="From outside: a host and port that this worker must reach, before a "
            "closed port means anything",
        ),
    ] = DEFAULT_CONTROL,
    timeout: Annotated[
        float, Field(title="Time-out", description="Seconds, for each check", gt=0, le=120)
    ] = 5.0,
    report: Annotated[
        str,
        Field(
            title="Report",
            description="Instead: the JSON of `linekeeper preflight --json` that somebody sent",
        ),
    ] = "",
    by: Annotated[
        str, Field(title="Your name", description="Who sends it; kept with the report")
    ] = "",
    worker: Annotated[
        str,
        Field(
            title="Worker",
            description="Only what this worker verified before is checked again, and only by it",
        ),
    ] = "",
) -> State[None]:
    """Check DNS, TCP, TLS, HTTP and clock of systems; keep the verdicts as evidence.

    Daily, without a form, it checks again what was in order before: a change opens an incident.
    Ends `Failed` if something is found that wasn't known.
    """
    if await is_paused():
        return paused()
    async with open_runtime() as rt:
        if worker and worker != worker_name():
            await rename("preflight · wrong worker")
            return skipped(
                f"The vantage belongs to the worker {worker}, and this is {worker_name()}: start "
                f"{worker} with `--work-queue {vantage_queue(worker)}`, and the others without it"
            )
        try:
            if report.strip():
                return await _import(rt, report, by)
            if system.strip() or targets:
                return await _check(rt, system, targets, vantage, timeout, control)
        except (Refusal, NoSuchSystem, OrderError, ReportError) as error:
            await rename("preflight · refused")
            field = "report" if isinstance(error, ReportError) else "system"
            wrong: object = error
            if isinstance(error, OrderError):
                field, wrong = _FIELDS.get(error.field, error.field), error.reason
            return refused(field, wrong, "Correct it and send the form again.")
        state = await _check_again(rt, timeout, control, is_sent=bool(worker))
        await completed("preflight")
        return state


async def _check(
    rt: Runtime, system: str, targets: list[str], vantage: str, timeout: float, control: str
) -> State[None]:
    async with rt.store.read() as session:
        named_targets = await find_named_targets(session, system) if system.strip() else []
    wanted = targets or [named.target for named in named_targets if named.target is not None]
    if not wanted:
        raise Refusal("targets", f"{system} has no host and port yet; give them")
    order = take_order(wanted, vantage, timeout, control=control)
    if len(named_targets) == 1 and len(order.targets) == 1:
        await name_target(rt.store, named_targets[0], str(order.targets[0]))
    report, checked = await follow(check, order)
    await keep_report(report, source="flow", by="preflight")
    return await _conclude(rt, [report], before=[checked])


async def _import(rt: Runtime, text: str, by: str) -> State[None]:
    report = parse_report(text.encode())
    new = await keep_report(report, source="import", by=by.strip() or "preflight form")
    get_run_logger().info("%d of %d targets are new evidence", new, len(report.targets))
    if unknown := await unowned_targets(rt.store, report):
        get_run_logger().warning("%s", unknown)
    return await _conclude(rt, [report], checked_here=False)


async def _check_again(rt: Runtime, timeout: float, control: str, *, is_sent: bool) -> State[None]:
    reports, before = [], []
    orders, planned = await follow(verified_orders, timeout, control)
    sent = Sent([], []) if is_sent else await _send(rt, planned)
    for order in orders:
        checked_now, checked = await follow(check, order, before=[planned])
        await keep_report(checked_now, source="flow", by="preflight")
        reports.append(checked_now)
        before.append(checked)
    if not reports:
        await conclude_drift(rt.store, [], now=utcnow())
        aged = [
            incident_change
            for incident_change in await conclude_ageing(rt.store, now=utcnow())
            if incident_change.begins
        ]
        if aged:
            await rename(f"preflight · {len(aged)} to renew")
            return Failed(message=sentences(incident_change.text for incident_change in aged))
        await rename("preflight · nothing to check")
        nothing = "Nothing was verified from here yet: run it for a system first"
        return skipped(f"{nothing}; {sent}" if str(sent) else nothing)
    return await _conclude(rt, reports, before=before, again=True, sent=str(sent))


async def _send(rt: Runtime, planned: State[Any]) -> Sent:
    """A vantage belongs to the worker that has it: those of others are sent to them."""
    async with rt.store.read() as session:
        workers = await other_workers(session, worker_name())
    if not workers:
        return Sent([], [])
    sent: Sent
    sent, _ = await follow(send_vantages, workers, before=[planned])
    if sent.unattended:
        get_run_logger().warning("%s", sent)
    return sent


async def _conclude(
    rt: Runtime,
    reports: list[PreflightVerdicts],
    *,
    before: Sequence[State[Any]] = (),
    checked_here: bool = True,
    again: bool = False,
    sent: str = "",
) -> State[None]:
    now = utcnow()
    changes = await conclude_drift(rt.store, reports, now=now) if checked_here else []
    aged = await conclude_ageing(rt.store, now=now)
    targets = [target for report in reports for target in report.targets]
    moved = await advance_targets(rt.store, targets, now=now)
    _, pages = await follow(
        publish, [item.standing.implementation.id for item in moved], before=before
    )
    await follow(report_preflight, reports, before=[pages])
    findings = [finding for report in reports for finding in report.findings]
    opened = [change for change in [*changes, *aged] if change.begins]
    summary = f"{len(targets)} checked, {counted(len(findings), 'finding')}"
    await rename(f"preflight · {summary}")
    said = "; ".join(
        filter(
            None,
            [
                sent,
                sentences(f"{verdict.target}: {verdict.message}" for verdict in findings),
                sentences(item.text for item in aged if item.begins),
            ],
        )
    )
    if opened or (findings and not again):
        return Failed(message=f"{summary}: {said}")
    known = ": known, " if findings or not sent else ": "
    return Completed(message=f"{summary}{known + said if said else ''}")
