"""How a deployment on the server differs from `prefect.yaml`: pure.

What the code means (entrypoint, form, description) follows the file. What an operator sets (when
it runs, paused or not, parameters, queue, tags, limits) is theirs; it is compared, never changed.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule

from linekeeper.cli.project import Wanted

Schedule = DeploymentSchedule | DeploymentScheduleCreate


def of_code(wanted: Wanted) -> dict[str, Any]:
    """The fields that follow the file, as the API takes them."""
    return {
        "entrypoint": wanted.entrypoint,
        "path": None,
        "description": wanted.description,
        "version": wanted.version,
        "pull_steps": wanted.pull_steps,
        "parameter_openapi_schema": wanted.parameter_schema,
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
    """Which of `of_code` are different on the server."""
    return {name: value for name, value in of_code(wanted).items() if getattr(found, name) != value}


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
    text = "none" if value is None else str(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
