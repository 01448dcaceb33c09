"""One deployment on the server: made if missing, its code kept current, the operator's left.

What the code means (entrypoint, form, description) follows `prefect.yaml`. What an operator sets
(when it runs, paused or not, parameters, queue, tags, limits) is theirs, and so is a description
that they edited; it is compared, never changed.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from prefect.cli.deploy._triggers import _create_deployment_triggers
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule

from linekeeper.cli.names import deployment_name, every, names_of_flows
from linekeeper.cli.project import DEMO_SLUG, Wanted

DESCRIBED = "x-linekeeper-description"
"""Where the form's schema keeps which description was deployed, as a digest."""
Schedule = DeploymentSchedule | DeploymentScheduleCreate


def of_code(wanted: Wanted) -> dict[str, Any]:
    """The fields that follow the file, as the API takes them."""
    return {
        "entrypoint": wanted.entrypoint,
        "path": None,
        "description": wanted.description,
        "version": wanted.version,
        "pull_steps": wanted.pull_steps,
        "parameter_openapi_schema": wanted.parameter_schema | {DESCRIBED: _digest(wanted)},
        "enforce_parameter_schema": wanted.enforce_parameter_schema,
    }


def of_operator(wanted: Wanted) -> dict[str, Any]:
    """The fields that are the operator's once the deployment is there; schedules apart."""
    return {
        "work_pool_name": wanted.pool,
        "work_queue_name": wanted.queue,
        "tags": wanted.tags,
        "parameters": wanted.parameters,
        "job_variables": wanted.job_variables,
        "paused": wanted.paused,
        "concurrency_limit": wanted.concurrency_limit,
        "concurrency_options": wanted.concurrency_options,
    }


def code_changes(found: DeploymentResponse, wanted: Wanted) -> dict[str, Any]:
    """Which of `of_code` are different on the server, without a description that was edited."""
    changes = {
        name: value for name, value in of_code(wanted).items() if getattr(found, name) != value
    }
    if is_described_by_operator(found, wanted):
        del changes["description"]
    return changes


def is_described_by_operator(found: DeploymentResponse, wanted: Wanted) -> bool:
    """Whether the description on the server is neither ours nor an earlier version's."""
    if found.description == wanted.description:
        return False
    deployed = (found.parameter_openapi_schema or {}).get(DESCRIBED)
    if deployed is None:  # by `prefect deploy`, or by a version that didn't note it
        return found.version == wanted.version
    return bool(deployed != _digest(found))


def _digest(described: DeploymentResponse | Wanted) -> str:
    return hashlib.sha256((described.description or "").encode()).hexdigest()[:16]


def operator_differences(found: DeploymentResponse, wanted: Wanted) -> list[str]:
    """What an operator set differently, one line each: `tags: [a] (prefect.yaml: [b])`."""
    limit = found.global_concurrency_limit
    there: dict[str, Any] = {
        "work_pool_name": found.work_pool_name,
        "work_queue_name": found.work_queue_name,
        "tags": sorted(found.tags),
        "parameters": found.parameters,
        "job_variables": found.job_variables,
        "paused": found.paused,
        "concurrency_limit": limit.limit if limit else None,
        "concurrency_options": _options(found),
    }
    here = of_operator(wanted) | {"tags": sorted(wanted.tags)}
    lines = [
        f"{name}: {_shown(value)} (prefect.yaml: {_shown(here[name])})"
        for name, value in there.items()
        if value != here[name]
    ]
    if is_described_by_operator(found, wanted):
        shown = _shown(wanted.description)
        lines.append(f"description: {_shown(found.description)} (prefect.yaml: {shown})")
    return lines + schedule_differences(found.schedules, wanted.schedules)


def _options(found: DeploymentResponse) -> dict[str, Any] | None:
    given = found.concurrency_options
    return given.model_dump(mode="json", exclude_none=True) if given else None


def schedule_differences(found: Sequence[Schedule], wanted: Sequence[Schedule]) -> list[str]:
    """The same for schedules, matched by slug."""
    there = {_slug(schedule): schedule for schedule in found}
    here = {_slug(schedule): schedule for schedule in wanted}
    lines = [
        f"schedule {slug}: {describe(schedule)} (prefect.yaml: {describe(here[slug])})"
        for slug, schedule in there.items()
        if slug in here and describe(schedule) != describe(here[slug])
    ]
    lines += [
        f"schedule {slug}: {describe(schedule)} (prefect.yaml: none)"
        for slug, schedule in there.items()
        if slug not in here
    ]
    lines += [
        f"schedule {slug}: none (prefect.yaml: {describe(schedule)})"
        for slug, schedule in here.items()
        if slug not in there
    ]
    return lines


def describe(schedule: Schedule) -> str:
    """`every 5 min`, `cron 17 3 * * * (UTC)`, with `, paused` and its parameters if it has any."""
    match schedule.schedule:
        case IntervalSchedule() as interval:
            text = f"every {_duration(interval.interval)}"
        case CronSchedule() as cron:
            text = f"cron {cron.cron} ({cron.timezone or 'UTC'})"
        case RRuleSchedule() as rule:
            text = f"rrule {rule.rrule} ({rule.timezone or 'UTC'})"
        case other:
            text = repr(other)
    if schedule.parameters:
        text += f" with {_shown(schedule.parameters)}"
    return text if schedule.active else f"{text}, paused"


def _slug(schedule: Schedule) -> str:
    return schedule.slug or f"without a slug, {describe(schedule)}"


def _duration(length: timedelta) -> str:
    seconds = length.total_seconds()
    for unit, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= unit and seconds % unit == 0:
            return f"{seconds / unit:g} {name}"
    return f"{seconds:g} s"


def _shown(value: object) -> str:
    text = "none" if value is None else " ".join(str(value).split())
    return text if len(text) <= 80 else f"{text[:77]}…"


GONE = ("customer-link", "first-report", "match-records")
"""Deployments of earlier versions: `customer-update`, `doctor` and `deletions` do that now."""


@dataclass(slots=True)
class Outcome:
    """What was done to a deployment."""

    made: bool = False
    changed: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    """What an operator set differently, and still is."""


async def there(client: PrefectClient, wanted: Iterable[Wanted]) -> dict[str, DeploymentResponse]:
    """Those of `wanted`, and of `GONE`, that the server has, by the names of their flows.

    One call for all.
    """
    named = {*(deployment.name for deployment in wanted), *GONE}
    names = [deployment_name(name) for name in sorted(named)]
    known = DeploymentFilter(name=DeploymentFilterName(any_=names))
    found = await every(client.read_deployments, deployment_filter=known)
    flows = await names_of_flows(client, {deployment.flow_id for deployment in found})
    return {
        flow: deployment
        for deployment in found
        if (flow := flows.get(deployment.flow_id)) in named
        and deployment.name == deployment_name(flow)
    }


async def upsert(
    client: PrefectClient,
    found: DeploymentResponse | None,
    wanted: Wanted,
    *,
    reset: bool,
    schedules_active: bool,
) -> Outcome:
    """Bring what the server has of `wanted` up to date. Errors of Prefect's client pass through."""
    if found is None:
        await _create(client, wanted, schedules_active=schedules_active)
        return Outcome(made=True)
    outcome = Outcome()
    changes = code_changes(found, wanted)
    if reset:
        restored = operator_differences(found, wanted)
        outcome.changed += [f"was {line}" for line in restored]
        if restored:
            changes |= of_operator(wanted) | of_code(wanted)
    if changes:
        # An update makes Prefect plan its runs anew: only where something is different.
        await client.update_deployment(found.id, DeploymentUpdate(**changes))
        if not reset:
            outcome.changed.append(f"updated {', '.join(sorted(changes))}")
    if (reset or _only_demo(found, wanted)) and await _replace_schedules(client, found, wanted):
        found = await client.read_deployment(found.id)
    if reset:
        await _replace_triggers(client, found.id, wanted)
    if not schedules_active:
        outcome.changed += await _pause_schedules(client, found)
    elif not reset:
        outcome.different = operator_differences(found, wanted)
        if wanted.triggers:
            outcome.different += await _trigger_differences(client, found.id, wanted)
    return outcome


def is_gone(found: DeploymentResponse, flow: str) -> bool:
    """Whether this is a deployment of an earlier version, as that made it."""
    return flow in GONE and (found.entrypoint or "").startswith("flows/")


async def _create(client: PrefectClient, wanted: Wanted, *, schedules_active: bool) -> None:
    flow_id = await client.create_flow_from_name(wanted.name)
    deployment_id = await client.create_deployment(
        flow_id,
        deployment_name(wanted.name),
        schedules=[
            schedule if schedules_active else schedule.model_copy(update={"active": False})
            for schedule in wanted.schedules
        ],
        **of_code(wanted),
        **of_operator(wanted),
    )
    await _replace_triggers(client, deployment_id, wanted)


async def _replace_triggers(client: PrefectClient, deployment_id: UUID, wanted: Wanted) -> None:
    if wanted.triggers:
        await _create_deployment_triggers(client, deployment_id, list(wanted.triggers))


async def _trigger_differences(
    client: PrefectClient, deployment_id: UUID, wanted: Wanted
) -> list[str]:
    """Triggers of the file that an operator removed."""
    owned = await client.read_resource_related_automations(f"prefect.deployment.{deployment_id}")
    missing = {str(trigger.name) for trigger in wanted.triggers} - {
        automation.name for automation in owned
    }
    return [f"trigger {name}: none (prefect.yaml: has it)" for name in sorted(missing)]


def _only_demo(found: DeploymentResponse, wanted: Wanted) -> bool:
    """Whether the sandbox's schedule is left over, where none is wanted."""
    slugs = {schedule.slug for schedule in found.schedules}
    return slugs == {DEMO_SLUG} and all(s.slug != DEMO_SLUG for s in wanted.schedules)


async def _replace_schedules(
    client: PrefectClient, found: DeploymentResponse, wanted: Wanted
) -> bool:
    if not schedule_differences(found.schedules, wanted.schedules):
        return False
    for schedule in found.schedules:
        await client.delete_deployment_schedule(found.id, schedule.id)
    if wanted.schedules:
        await client.create_deployment_schedules(found.id, wanted.schedules)
    return True


async def _pause_schedules(client: PrefectClient, found: DeploymentResponse) -> list[str]:
    paused = []
    for schedule in found.schedules:
        if schedule.active:
            await client.update_deployment_schedule(found.id, schedule.id, active=False)
            paused.append(f"paused schedule {schedule.slug or schedule.id}")
    return paused
