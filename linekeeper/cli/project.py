"""`prefect.yaml`, the one list of deployments, as what the server should have."""

import asyncio
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.schedules import SCHEDULE_TYPES, CronSchedule, IntervalSchedule
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema

from linekeeper import __version__
from linekeeper.cli.checkout import root
from linekeeper.cli.errors import UserError

SWEEP, DIGEST = "health-sweep", "digest"
DEMO_SLUG = "demo"
"""The schedule that takes the place of a deployment's own while the sandbox is shown."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A deployment as `prefect.yaml` has it; its flow has the same name."""

    name: str
    entrypoint: str
    description: str
    parameter_schema: dict[str, Any]
    pull_steps: list[dict[str, Any]]
    pool: str
    queue: str
    tags: list[str] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)
    job_variables: dict[str, Any] = field(default_factory=dict)
    schedules: list[DeploymentScheduleCreate] = field(default_factory=list)
    paused: bool = False
    concurrency_limit: int | None = None
    version: str = __version__


async def wanted_deployments(file: Path | None = None) -> list[Wanted]:
    """What `file` (default: the project's `prefect.yaml`) lists, with each flow's parameters.

    Raises `UserError` if the file, or a flow it names, can't be read.
    """
    file = file or root() / "prefect.yaml"
    try:
        content = yaml.safe_load(await asyncio.to_thread(file.read_text, "utf-8"))
        return [
            await _wanted(entry, content.get("pull") or [], file.parent)
            for entry in content["deployments"]
        ]
    except FileNotFoundError as error:
        raise UserError(
            f"{error.filename} is missing: run from a checkout of the project"
        ) from None
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{file} can't be used: {type(error).__name__}: {error}") from error


@dataclass(frozen=True, slots=True)
class Demo:
    """Schedules of the sandbox's own: a sweep every so many seconds, the digest at `HH:MM` UTC."""

    sweep_seconds: float
    morning: str = ""


def with_demo(wanted: list[Wanted], demo: Demo) -> list[Wanted]:
    """The same, with the sweep, and the digest if there is a morning, as `demo` says."""
    every = IntervalSchedule(interval=timedelta(seconds=demo.sweep_seconds))
    schedules: dict[str, SCHEDULE_TYPES] = {SWEEP: every}
    if demo.morning:
        hour, minute = demo.morning.split(":")
        schedules[DIGEST] = CronSchedule(cron=f"{int(minute)} {int(hour)} * * *", timezone="UTC")
    return [
        replace(
            one,
            schedules=[
                DeploymentScheduleCreate(schedule=schedules[one.name], slug=DEMO_SLUG, active=True)
            ],
        )
        if one.name in schedules
        else one
        for one in wanted
    ]


async def _wanted(entry: dict[str, Any], pull: list[dict[str, Any]], folder: Path) -> Wanted:
    # In a thread: loading a flow runs its file.
    flow: Flow[..., Any] = await asyncio.to_thread(
        load_flow_from_entrypoint, str(folder / entry["entrypoint"]), use_placeholder_flow=False
    )
    if flow.name != entry["name"]:
        raise ValueError(f"the flow of {entry['entrypoint']} is named {flow.name!r}")
    return Wanted(
        name=entry["name"],
        entrypoint=entry["entrypoint"],
        description=entry["description"].strip(),
        parameter_schema=parameter_schema(flow).model_dump(mode="json", exclude_unset=True),
        pull_steps=entry.get("pull") or pull,
        pool=entry["work_pool"]["name"],
        queue=entry["work_pool"]["work_queue_name"],
        tags=entry.get("tags", []),
        parameters=entry.get("parameters", {}),
        job_variables=entry["work_pool"].get("job_variables", {}),
        schedules=[_schedule(raw) for raw in entry.get("schedules") or []],
    )


def _schedule(raw: dict[str, Any]) -> DeploymentScheduleCreate:
    timezone = raw.get("timezone", "UTC")
    schedule: SCHEDULE_TYPES
    if "cron" in raw:
        schedule = CronSchedule(cron=raw["cron"], timezone=timezone)
    else:
        schedule = IntervalSchedule(
            interval=timedelta(seconds=raw["interval"]),
            anchor_date=raw["anchor_date"],
            timezone=timezone,
        )
    return DeploymentScheduleCreate(
        schedule=schedule,
        slug=raw["slug"],
        active=raw.get("active", True),
        parameters=raw.get("parameters", {}),
    )
