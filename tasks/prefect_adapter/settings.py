"""What operators set in Prefect, remembered in our database and put back into a new Prefect.

A Prefect is new where its work pool is not the one remembered: then `deploy` seeds not what
`prefect.yaml` says but what was set before. What it never had (a notification's block of a type
the server doesn't know) is reported.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import (
    BlockDocumentCreate,
    DeploymentScheduleCreate,
    WorkPoolUpdate,
)
from prefect.client.schemas.objects import DeploymentSchedule, Variable
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

from linekeeper.clock import utcnow
from linekeeper.config import Configuration
from linekeeper.settings import Settings
from linekeeper.store import KeyProblem, Store
from linekeeper.store.configuration import load_configuration
from linekeeper.store.prefect_settings import load_prefect_settings, save_prefect_settings
from linekeeper.store.processes import new_owner, registered
from linekeeper.store.trouble import is_of_database
from linekeeper.store.usable import enter_if_usable
from tasks.prefect_adapter.deployed import RECORD, set_by_operator
from tasks.prefect_adapter.names import PAGE, automation_name, every, tag, variable_name
from tasks.prefect_adapter.server import prefect_at, work_pool

OURS = "linekeeper"
"""Variables whose name starts so are ours."""
SECONDS = 20.0
_SCHEDULES, _NOTED = "schedules", "noted"
_NOT_FIELDS = (_SCHEDULES, _NOTED)
_ACTIONS = ("actions", "actions_on_trigger", "actions_on_resolve")
_QUEUE = ("priority", "concurrency_limit", "is_paused")
_Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class PrefectSettings:
    """What was set, as plain JSON; by the names people know."""

    pool_id: str
    pool: _Json
    queues: dict[str, _Json]
    variables: dict[str, _Json]
    deployments: dict[str, _Json]
    automations: dict[str, _Json]
    documents: dict[str, _Json] = field(default_factory=dict)
    """Blocks the automations' actions name, by their id then."""

    def schedules(self, deployment: str) -> list[DeploymentScheduleCreate] | None:
        """The schedules a deployment had; None if it isn't remembered."""
        known = self.deployments.get(deployment)
        if known is None:
            return None
        return [DeploymentScheduleCreate.model_validate(schedule) for schedule in known[_SCHEDULES]]

    def settings(self, deployment: str) -> _Json:
        """The fields of a deployment that are an operator's, as the API takes them."""
        known = self.deployments.get(deployment, {})
        return {name: value for name, value in known.items() if name not in _NOT_FIELDS}

    def noted(self, deployment: str) -> _Json | None:
        """What was noted of it at its deploy (`deployed.RECORD`); None if that isn't known."""
        return self.deployments.get(deployment, {}).get(_NOTED)


async def look(client: PrefectClient) -> PrefectSettings | None:
    """What is set now; None where nothing is deployed. Errors of Prefect's client pass through."""
    try:
        pool = await client.read_work_pool(work_pool())
    except ObjectNotFound:
        return None
    queues = await every(client.read_work_queues, work_pool_name=work_pool())
    automations = {
        automation.name: automation.model_dump(mode="json", exclude={"id", "owner_resource"})
        for automation in await every(client.read_automations)
        if tag() in automation.tags or automation.name.startswith(automation_name(""))
    }
    return PrefectSettings(
        pool_id=str(pool.id),
        pool={"is_paused": pool.is_paused, "concurrency_limit": pool.concurrency_limit},
        queues={queue.name: {name: getattr(queue, name) for name in _QUEUE} for queue in queues},
        variables={
            variable.name: {"value": variable.value, "tags": variable.tags}
            for variable in await _variables(client)
            if variable.name.startswith(variable_name(OURS))
        },
        deployments={
            deployment.name: {
                **set_by_operator(deployment),
                _SCHEDULES: [_schedule(schedule) for schedule in deployment.schedules],
                _NOTED: (deployment.parameter_openapi_schema or {}).get(RECORD),
            }
            for deployment in await every(client.read_deployments)
            if deployment.work_pool_name == work_pool() or tag() in deployment.tags
        },
        automations=automations,
        documents=await _documents(client, automations),
    )


async def put_documents_back(
    client: PrefectClient, remembered: PrefectSettings
) -> tuple[PrefectSettings, list[str]]:
    """Make the blocks that the automations' actions need.

    Returns the settings with the blocks' new ids, and in words what could not be put back.
    """
    new: dict[str, str] = {}
    problems = []
    for old, document in remembered.documents.items():
        try:
            new[old] = await _make(client, document)
        except (ObjectNotFound, PrefectHTTPStatusError) as error:
            problems.append(
                f"block {document['type']}/{document['name']} could not be put back "
                f"({type(error).__name__}): make it again, and choose it in its automation"
            )
    automations = {
        name: row | {kind: [_moved(action, new) for action in row[kind]] for kind in _ACTIONS}
        for name, row in remembered.automations.items()
    }
    return PrefectSettings(
        remembered.pool_id,
        remembered.pool,
        remembered.queues,
        remembered.variables,
        remembered.deployments,
        automations,
    ), problems


async def put_pool_back(client: PrefectClient, remembered: PrefectSettings) -> None:
    """Limits and pauses of the pool and of its queues."""
    await client.update_work_pool(work_pool(), WorkPoolUpdate(**remembered.pool))
    for queue in await every(client.read_work_queues, work_pool_name=work_pool()):
        if queue.name in remembered.queues:
            await client.update_work_queue(queue.id, **remembered.queues[queue.name])


def automation(fields: Mapping[str, Any]) -> AutomationCore:
    """An automation to make, from what was remembered."""
    return AutomationCore.model_validate(dict(fields))


@asynccontextmanager
async def memory(settings: Settings) -> AsyncIterator["Memory"]:
    """The place to remember in: our database, if it is there. Raises nothing of its own."""
    async with AsyncExitStack() as stack:
        store, trouble = await enter_if_usable(stack, settings)
        known = None
        if store is not None:
            try:
                await stack.enter_async_context(registered(store, new_owner(), "command"))
                known = await _load(store)
            except Exception as error:
                if not isinstance(error, KeyProblem) and not is_of_database(error):
                    raise
                store, trouble = None, str(error)
        yield Memory(store, known, trouble)


@dataclass(slots=True)
class Memory:
    """What is remembered, and where."""

    store: Store | None
    known: PrefectSettings | None
    trouble: str | None
    """Why the database could not be used; None where it could, or where there is none yet."""

    async def lost(self, client: PrefectClient) -> PrefectSettings | None:
        """What a new Prefect has to get back; None where this one is known, or nothing is."""
        if self.known is None:
            return None
        try:
            pool = await client.read_work_pool(work_pool())
        except ObjectNotFound:
            return self.known
        return None if str(pool.id) == self.known.pool_id else self.known

    async def blocks(
        self, settings: Settings, lost: PrefectSettings | None
    ) -> Configuration | None:
        """The blocks' last copy, where the Prefect they were in is gone or none was remembered."""
        if self.store is None or (lost is None and self.known is not None):
            return None
        return await load_configuration(self.store, settings)

    async def keep(self, client: PrefectClient) -> bool:
        """Remember what is set now; returns whether it could be."""
        if self.store is None or (current := await look(client)) is None:
            return False
        await save_prefect_settings(self.store, _plain(current), now=utcnow())
        return True


async def remember(client: PrefectClient, store: Store) -> bool:
    """Remember what is set now, unless this Prefect is a new one that waits for `deploy`."""
    known, current = await _load(store), await look(client)
    if current is None or (known is not None and known.pool_id != current.pool_id):
        return False
    await save_prefect_settings(store, _plain(current), now=utcnow())
    return True


async def remember_now(store: Store, settings: Settings) -> str:
    """The same, where Prefect may be away; returns in words what is remembered."""
    try:
        with prefect_at(settings, retries=0):
            async with asyncio.timeout(SECONDS), get_client() as client:
                if await remember(client, store):
                    return "what operators set there is in it, as of now"
        why = "nothing is deployed there"
    except (httpx.HTTPError, PrefectHTTPStatusError, TimeoutError, RuntimeError) as error:
        why = f"it does not answer ({type(error).__name__})"
    known = await load_prefect_settings(store) is not None
    return f"{why}; in it is {'what was last seen' if known else 'nothing'} of it"


def _plain(current: PrefectSettings) -> _Json:
    return {name: getattr(current, name) for name in PrefectSettings.__dataclass_fields__}


async def _load(store: Store) -> PrefectSettings | None:
    known = await load_prefect_settings(store)
    return None if known is None else PrefectSettings(**known)


def _schedule(schedule: DeploymentSchedule) -> _Json:
    fields = schedule.model_dump(mode="json", include={"schedule", "active", "parameters", "slug"})
    return {**fields, "max_scheduled_runs": schedule.max_scheduled_runs}


async def _variables(client: PrefectClient) -> list[Variable]:
    """Ours; Prefect's client lists only as many variables as one page has."""
    ours = {"variables": {"name": {"like_": variable_name(OURS)}}, "limit": PAGE}
    answer = await client.request("POST", "/variables/filter", json=ours)
    return Variable.model_validate_list(answer.json())


async def _documents(client: PrefectClient, automations: Mapping[str, _Json]) -> dict[str, _Json]:
    wanted = {
        str(action["block_document_id"])
        for row in automations.values()
        for kind in _ACTIONS
        for action in row[kind]
        if action.get("block_document_id")
    }
    documents = {}
    for name in sorted(wanted):
        try:
            document = await client.read_block_document(UUID(name))
        except ObjectNotFound:
            continue
        if document.block_type is not None:
            documents[name] = {
                "type": document.block_type.slug,
                "name": document.name,
                "data": document.data,
            }
    return documents


async def _make(client: PrefectClient, document: _Json) -> str:
    kind = await client.read_block_type_by_slug(document["type"])
    schema = await client.get_most_recent_block_schema_for_block_type(kind.id)
    if schema is None:
        raise ObjectNotFound(LookupError(document["type"]))
    try:
        there = await client.read_block_document_by_name(document["name"], document["type"])
    except ObjectNotFound:
        there = await client.create_block_document(
            BlockDocumentCreate(
                name=document["name"],
                data=document["data"],
                block_schema_id=schema.id,
                block_type_id=kind.id,
            )
        )
    return str(there.id)


def _moved(action: _Json, new: Mapping[str, str]) -> _Json:
    """An action whose block has another id now; one whose block is gone does nothing."""
    old = action.get("block_document_id")
    if not old:
        return action
    return {**action, "block_document_id": new[old]} if old in new else {"type": "do-nothing"}
