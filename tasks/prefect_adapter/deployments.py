"""One deployment on the server: made if missing, its code kept current, the operator's left.

What the code means (entrypoint, form) follows `prefect.yaml`. What an operator sets (when it runs,
paused or not, parameters, queue, tags, limits, description) is theirs once they changed it
(`deployed`): it is compared, never changed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from prefect.cli.deploy._triggers import _create_deployment_triggers
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName
from prefect.client.schemas.responses import DeploymentResponse
from prefect.utilities.schema_tools.validation import validate

from tasks.prefect_adapter.deployed import (
    RECORD,
    Followed,
    Record,
    followed,
    of_operator,
    operator_differences,
    record_of,
    recorded,
    schedule_differences,
)
from tasks.prefect_adapter.names import deployment_name, every, names_of_flows
from tasks.prefect_adapter.project import Wanted


def of_code(wanted: Wanted, record: Record) -> dict[str, Any]:
    """The fields that follow the file, as the API takes them."""
    return {
        "entrypoint": wanted.entrypoint,
        "path": None,
        "version": wanted.version,
        "pull_steps": wanted.pull_steps,
        "parameter_openapi_schema": wanted.parameter_schema | {RECORD: dict(record)},
        "enforce_parameter_schema": wanted.enforce_parameter_schema,
    }


GONE = (
    "customer-link",
    "first-report",
    "implementation-update",
    "match-records",
    "reconcile-connection",
    "test-alert",
)
"""Deployments of earlier versions, whose flows are no more."""


@dataclass(slots=True)
class DeployOutcome:
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
    deployments = await every(client.read_deployments, deployment_filter=known)
    flows = await names_of_flows(client, {deployment.flow_id for deployment in deployments})
    return {
        flow: deployment
        for deployment in deployments
        if (flow := flows.get(deployment.flow_id)) in named
        and deployment.name == deployment_name(flow)
    }


async def upsert(
    client: PrefectClient,
    existing: DeploymentResponse | None,
    wanted: Wanted,
    *,
    shipped: Wanted | None = None,
    reset: bool,
    schedules_active: bool,
) -> DeployOutcome:
    """Bring what the server has of `wanted` up to date. Errors of Prefect's client pass through.

    `shipped` is what the file says, where `wanted` is what an operator had made of it.
    """
    record = record_of(shipped or wanted)
    defaults = (existing or wanted).parameters
    faults = _faults(defaults, wanted.parameter_schema)
    accepted = {name: value for name, value in defaults.items() if name not in faults}
    outcome = DeployOutcome(
        changed=[f"dropped the default {name}: {faults[name]}" for name in faults]
    )
    if existing is None:
        wanted = replace(wanted, parameters=accepted)
        await _create(client, wanted, record, schedules_active=schedules_active)
        outcome.made = True
        return outcome
    existing = existing.model_copy(update={"parameters": accepted})
    changes = {
        name: value
        for name, value in of_code(wanted, record).items()
        if getattr(existing, name) != value
    }
    if faults:
        changes["parameters"] = accepted
    follows = followed(existing, wanted, recorded(existing, wanted))
    changes |= follows.fields
    if reset:
        restored = operator_differences(existing, wanted)
        outcome.changed += [f"was {line}" for line in restored]
        if restored:
            changes |= of_operator(wanted) | {"description": wanted.description}
    if changes:
        # An update makes Prefect plan its runs anew: only where something is different.
        await client.update_deployment(existing.id, DeploymentUpdate(**changes))
        if not reset:
            outcome.changed.append(f"updated {', '.join(sorted(changes))}")
    scheduled = await _bring_schedules(client, existing, wanted, follows, reset=reset)
    if scheduled and not reset:
        outcome.changed.append("updated schedules")
    if scheduled or follows.fields:
        existing = await client.read_deployment(existing.id)
    if reset:
        await _replace_triggers(client, existing.id, wanted)
    if not schedules_active:
        outcome.changed += await _pause_schedules(client, existing)
    elif not reset:
        outcome.different = operator_differences(existing, wanted)
        if wanted.triggers:
            outcome.different += await _trigger_differences(client, existing.id, wanted)
    return outcome


def _faults(parameters: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, str]:
    """Why Prefect would refuse some of these defaults, which another version's form took."""
    faults = {
        name: validate({name: value}, dict(schema), ignore_required=True)
        for name, value in parameters.items()
    }
    return {name: errors[0].message[:200] for name, errors in faults.items() if errors}


def is_gone(deployment: DeploymentResponse, flow: str) -> bool:
    """Whether this is a deployment of an earlier version, as that made it."""
    return flow in GONE and (deployment.entrypoint or "").startswith("flows/")


async def _create(
    client: PrefectClient, wanted: Wanted, record: Record, *, schedules_active: bool
) -> None:
    flow_id = await client.create_flow_from_name(wanted.name)
    deployment_id = await client.create_deployment(
        flow_id,
        deployment_name(wanted.name),
        schedules=[
            schedule if schedules_active else schedule.model_copy(update={"active": False})
            for schedule in wanted.schedules
        ],
        description=wanted.description,
        **of_code(wanted, record),
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


async def _bring_schedules(
    client: PrefectClient,
    deployment: DeploymentResponse,
    wanted: Wanted,
    follows: Followed,
    *,
    reset: bool,
) -> bool:
    """Whether any was made or removed."""
    remove, make = follows.remove, follows.make
    if reset:
        if not schedule_differences(deployment.schedules, wanted.schedules):
            return False
        remove, make = deployment.schedules, wanted.schedules
    for schedule in remove:
        await client.delete_deployment_schedule(deployment.id, schedule.id)
    if make:
        await client.create_deployment_schedules(deployment.id, make)
    return bool(remove or make)


async def _pause_schedules(client: PrefectClient, deployment: DeploymentResponse) -> list[str]:
    paused = []
    for schedule in deployment.schedules:
        if schedule.active:
            await client.update_deployment_schedule(deployment.id, schedule.id, active=False)
            paused.append(f"paused schedule {schedule.slug or schedule.id}")
    return paused
