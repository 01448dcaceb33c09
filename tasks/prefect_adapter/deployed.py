"""A deployment on the server beside `prefect.yaml`: what differs, and whose doing that is. Pure.

What was deployed last is noted as digests in the schema of the deployment's form, where nobody
looks and Prefect keeps it. What is on the server as it was deployed nobody has changed: there a
new version of the file is followed. What is not is an operator's, and stays.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule

from tasks.prefect_adapter.project import Wanted

RECORD = "x-linekeeper-deployed"
"""The key in the schema under which there is a digest for each name of `of_operator`, of the
description and, by their slugs, of the schedules."""
Record = Mapping[str, Any]
Schedule = DeploymentSchedule | DeploymentScheduleCreate

_BEFORE = re.compile(r"0\.[01]\..*|[0-9a-f]{12}\+?")
"""What versions that noted nothing were called, outside a checkout and in one."""
_TAGS_SINCE = frozenset({"internal", "start-here"})
_SCHEDULES_SINCE = frozenset({"in-between"})
"""What 0.1, which noted nothing, did not have yet."""


def record_of(wanted: Wanted) -> dict[str, Any]:
    return {
        "description": _digest(wanted.description),
        **{name: _digest(value) for name, value in _sorted(of_operator(wanted)).items()},
        "schedules": {
            slug_of(schedule): _digest(describe(schedule)) for schedule in wanted.schedules
        },
    }


def recorded(deployment: DeploymentResponse, wanted: Wanted) -> Record:
    """What was noted; where 0.1 deployed it, what that would have noted. `prefect deploy` notes
    nothing: what it brought is taken to be what the file says, and all else an operator's."""
    noted = (deployment.parameter_openapi_schema or {}).get(RECORD)
    if isinstance(noted, dict):
        return noted
    if not _BEFORE.fullmatch(deployment.version or ""):
        return record_of(wanted)
    before = replace(
        wanted,
        tags=[tag for tag in wanted.tags if tag not in _TAGS_SINCE],
        schedules=[
            schedule for schedule in wanted.schedules if slug_of(schedule) not in _SCHEDULES_SINCE
        ],
    )
    # Descriptions were the file's then.
    return record_of(before) | {"description": _digest(_described(deployment))}


def _described(deployment: DeploymentResponse) -> str:
    """Its description; `prefect deploy` leaves the end of the last line in it."""
    return (deployment.description or "").strip()


def set_by_operator(deployment: DeploymentResponse) -> dict[str, Any]:
    """What the server has of `of_operator`, and the description."""
    return _there(deployment) | {"description": _described(deployment)}


def as_it_was(
    wanted: Wanted,
    settings: Mapping[str, Any],
    schedules: Sequence[DeploymentScheduleCreate],
    record: Record | None,
) -> Wanted:
    """`wanted` with what an operator had set on a server that is gone.

    `record` is what was noted there: what nobody had changed follows the file. Where it isn't
    known, all of `settings` and `schedules` counts as an operator's.
    """
    fields = {
        _FIELDS.get(name, name): value
        for name, value in _sorted(settings).items()
        if record is None or record.get(name) != _digest(value)
    }
    if record is None:
        return replace(wanted, schedules=list(schedules), **fields)
    noted = record.get("schedules") or {}
    theirs = {slug_of(schedule): schedule for schedule in schedules}
    kept = [
        schedule
        for slug, schedule in theirs.items()
        if noted.get(slug) != _digest(describe(schedule))
    ]
    ours = [
        schedule
        for schedule in wanted.schedules
        if (slug := slug_of(schedule)) not in {slug_of(each) for each in kept}
        and (slug in theirs or slug not in noted)
    ]
    return replace(wanted, schedules=[*ours, *kept], **fields)


_FIELDS = {"work_pool_name": "pool", "work_queue_name": "queue"}
"""What `Wanted` calls them."""


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


@dataclass(frozen=True, slots=True)
class Followed:
    """What of the file's operator side is new, and unchanged on the server."""

    fields: dict[str, Any]
    make: list[DeploymentScheduleCreate] = field(default_factory=list)
    remove: list[DeploymentSchedule] = field(default_factory=list)


def followed(deployment: DeploymentResponse, wanted: Wanted, record: Record) -> Followed:
    """What a new version of the file brings where no operator changed anything."""
    there = _sorted(_there(deployment))
    here = of_operator(wanted)
    fields = {
        name: here[name]
        for name, value in _sorted(here).items()
        if value != there[name] and record.get(name) == _digest(there[name])
    }
    described = _described(deployment)
    if described != wanted.description and record.get("description") == _digest(described):
        fields["description"] = wanted.description
    noted = record.get("schedules") or {}
    theirs = {slug_of(schedule): schedule for schedule in deployment.schedules}
    ours = {slug_of(schedule): schedule for schedule in wanted.schedules}
    stale = {
        slug
        for slug, schedule in theirs.items()
        if noted.get(slug) == _digest(describe(schedule))
        and (slug not in ours or describe(ours[slug]) != describe(schedule))
    }
    return Followed(
        fields,
        [
            schedule
            for slug, schedule in ours.items()
            if slug in stale or slug not in {*theirs, *noted}
        ],
        [theirs[slug] for slug in sorted(stale)],
    )


def operator_differences(deployment: DeploymentResponse, wanted: Wanted) -> list[str]:
    """What an operator set differently, one line each: `tags: [a] (prefect.yaml: [b])`."""
    there = _sorted(_there(deployment)) | {"description": _described(deployment)}
    here = _sorted(of_operator(wanted)) | {"description": wanted.description}
    lines = [
        f"{name}: {_shown(value)} (prefect.yaml: {_shown(here[name])})"
        for name, value in there.items()
        if value != here[name]
    ]
    return lines + schedule_differences(deployment.schedules, wanted.schedules)


def _there(deployment: DeploymentResponse) -> dict[str, Any]:
    limit = deployment.global_concurrency_limit
    return {
        "work_pool_name": deployment.work_pool_name,
        "work_queue_name": deployment.work_queue_name,
        "tags": deployment.tags,
        "parameters": deployment.parameters,
        "job_variables": deployment.job_variables,
        "paused": deployment.paused,
        "concurrency_limit": limit.limit if limit else None,
        "concurrency_options": _options(deployment),
    }


def _sorted(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {**fields, "tags": sorted(fields["tags"])}


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _options(deployment: DeploymentResponse) -> dict[str, Any] | None:
    given = deployment.concurrency_options
    return given.model_dump(mode="json", exclude_none=True) if given else None


def schedule_differences(existing: Sequence[Schedule], wanted: Sequence[Schedule]) -> list[str]:
    """The same for schedules, matched by slug."""
    there = {slug_of(schedule): schedule for schedule in existing}
    here = {slug_of(schedule): schedule for schedule in wanted}
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


def slug_of(schedule: Schedule) -> str:
    """The slug a schedule is matched by; one made in the UI has none, and is what it says."""
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
