"""`prefect.yaml`, the one list of deployments, as what the server should have."""

import asyncio
import os
import subprocess
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml
from prefect.cli.deploy._models import PrefectYamlModel
from prefect.cli.deploy._schedules import _schedule_config_to_deployment_schedule
from prefect.cli.deploy._triggers import _initialize_deployment_triggers
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import SCHEDULE_TYPES, CronSchedule, IntervalSchedule
from prefect.events import DeploymentTriggerTypes
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema
from prefect.utilities.templating import (
    apply_values,
    resolve_block_document_references,
    resolve_variables,
)

import linekeeper
from linekeeper import __version__
from linekeeper.refusal import UserError
from tasks.prefect_adapter.names import tag
from tasks.prefect_adapter.server import work_pool

OURS = "linekeeper"
SWEEP, DIGEST = "health-sweep", "digest"
CLOSED = {"additionalProperties": False}
"""What makes Prefect refuse a parameter that a flow doesn't have, instead of crashing its run."""
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
    concurrency_options: dict[str, Any] | None = None
    enforce_parameter_schema: bool = True
    triggers: list[DeploymentTriggerTypes] = field(default_factory=list)
    """Automations that start it."""
    version: str = __version__


def root() -> Path:
    """The folder that holds `flows/` and `prefect.yaml`: this installation's own."""
    return Path(linekeeper.__file__).resolve().parents[1]


def deployments_file() -> Path:
    """`prefect.yaml`: in a checkout beside the flows, in the wheel inside the package."""
    own = root() / "prefect.yaml"
    return own if own.is_file() else Path(linekeeper.__file__).with_name("prefect.yaml")


async def wanted_deployments(
    file: Path | None = None, *, client: PrefectClient | None = None
) -> list[Wanted]:
    """What `file` (default: the project's `prefect.yaml`) lists, with each flow's parameters.

    It is read as `prefect deploy` reads it, templates included; those that name blocks and
    variables are resolved where there is a `client`. Raises `UserError` if the file, or a flow it
    names, can't be read.
    """
    folder, pool = root() if file is None else file.parent, work_pool()
    file = file or deployments_file()
    try:
        content = yaml.safe_load(await asyncio.to_thread(file.read_text, "utf-8"))
        model = PrefectYamlModel.model_validate(content)
        given = model.model_dump(exclude_unset=True, mode="json")
        installed = file.parent != folder
        version = __version__ if installed else await asyncio.to_thread(commit_of, folder)
        return [
            await _wanted(
                await _resolved(entry, client),
                await _resolved(given.get("pull") or [], client),
                folder,
                version,
                ours=pool,
            )
            for entry in given["deployments"]
        ]
    except FileNotFoundError as error:
        raise UserError(f"{error.filename} is missing: install Linekeeper again") from None
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{file} can't be used: {type(error).__name__}: {error}") from error


async def _resolved(template: Any, client: PrefectClient | None) -> Any:
    """Put blocks, variables and the environment in, as `prefect deploy` does; triggers keep
    the templates that are filled in when they fire."""
    triggers = template.pop("triggers", None) if isinstance(template, dict) else None
    if client is not None:
        template = await resolve_block_document_references(template, client=client)
        template = await resolve_variables(template, client=client)
    filled = apply_values(template, dict(os.environ), remove_notset=False, warn_on_notset=True)
    if triggers is not None:
        assert isinstance(filled, dict)  # as the template was
        filled["triggers"] = triggers
    return filled


def commit_of(folder: Path) -> str:
    """The git commit of a checkout, marked `+` where files differ from it; without one, the
    version of the package."""
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=+"],  # noqa: S607
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return __version__
    return said.stdout.strip() or __version__


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
            deployment,
            schedules=[
                DeploymentScheduleCreate(
                    schedule=schedules[deployment.name], slug=DEMO_SLUG, active=True
                )
            ],
        )
        if deployment.name in schedules
        else deployment
        for deployment in wanted
    ]


def with_demo_of(wanted: Wanted, existing: DeploymentResponse | None) -> Wanted:
    """The same, with the schedules of the sandbox's own that are on it already."""
    theirs = existing.schedules if existing is not None else []
    demo = [
        DeploymentScheduleCreate(schedule=schedule.schedule, slug=DEMO_SLUG, active=schedule.active)
        for schedule in theirs
        if schedule.slug == DEMO_SLUG
    ]
    return replace(wanted, schedules=demo) if demo else wanted


async def _wanted(
    entry: dict[str, Any], pull: list[dict[str, Any]], folder: Path, version: str, *, ours: str
) -> Wanted:
    # In a thread: loading a flow runs its file.
    flow: Flow[..., Any] = await asyncio.to_thread(
        load_flow_from_entrypoint, str(folder / entry["entrypoint"]), use_placeholder_flow=False
    )
    if flow.name != entry["name"]:
        raise ValueError(f"the flow of {entry['entrypoint']} is named {flow.name!r}")
    pool = entry.get("work_pool") or {}
    limit = entry.get("concurrency_limit")
    options: dict[str, Any] = {}
    if isinstance(limit, dict):
        options = {name: value for name, value in limit.items() if name != "limit" and value}
        limit = limit.get("limit")
    tags = entry.get("tags") or []
    named = [tags] if isinstance(tags, str) else tags
    enforced = entry.get("enforce_parameter_schema")
    return Wanted(
        name=entry["name"],
        entrypoint=entry["entrypoint"],
        description=(entry.get("description") or flow.description or "").strip(),
        parameter_schema=parameter_schema(flow).model_dump(mode="json", exclude_unset=True)
        | CLOSED,
        pull_steps=entry.get("pull") or pull,
        pool=ours if pool.get("name") in (None, OURS) else str(pool["name"]),
        queue=pool.get("work_queue_name") or "default",
        tags=[tag() if name == OURS else name for name in named],
        parameters=entry.get("parameters") or {},
        job_variables=pool.get("job_variables") or {},
        schedules=[_schedule(raw) for raw in entry.get("schedules") or []],
        paused=bool(entry.get("paused")),
        concurrency_limit=limit,
        concurrency_options=options or None,
        enforce_parameter_schema=enforced is None or bool(enforced),
        triggers=_initialize_deployment_triggers(entry["name"], entry.get("triggers") or []),
        version=entry.get("version") or version,
    )


def _schedule(raw: dict[str, Any]) -> DeploymentScheduleCreate:
    return DeploymentScheduleCreate(**_schedule_config_to_deployment_schedule(raw))
