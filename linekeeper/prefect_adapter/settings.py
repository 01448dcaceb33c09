"""What operators set in Prefect, remembered in our database and put back into a new Prefect.

A Prefect is new where its work pool is not the one remembered: then `deploy` seeds not what
`prefect.yaml` says but what was set before. What it never had (a notification's block of a type
the server doesn't know) is reported.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
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
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from linekeeper.clock import utcnow
from linekeeper.config import Configuration
from linekeeper.prefect_adapter.names import PAGE, automation_name, every, tag, variable_name
from linekeeper.prefect_adapter.server import prefect_at, work_pool
from linekeeper.settings import Settings
from linekeeper.store import KeyProblem, Store, StoreError
from linekeeper.store.configuration import load_configuration
from linekeeper.store.desk import load_desk, save_desk
from linekeeper.store.processes import new_owner, registered
from linekeeper.store.schema import require_current

OURS = "linekeeper"
"""Variables whose name starts so are ours."""
SECONDS = 20.0
_OPERATORS = (
    "work_pool_name",
    "work_queue_name",
    "tags",
    "parameters",
    "job_variables",
    "paused",
)
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
        return [
            DeploymentScheduleCreate.model_validate(schedule) for schedule in known["schedules"]
        ]

    def settings(self, deployment: str) -> _Json:
        """The fields of a deployment that are an operator's, as the API takes them."""
        known = self.deployments.get(deployment, {})
        return {name: value for name, value in known.items() if name != "schedules"}


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
                **{name: getattr(deployment, name) for name in _OPERATORS},
                "concurrency_limit": deployment.global_concurrency_limit
                and deployment.global_concurrency_limit.limit,
                "schedules": [_schedule(schedule) for schedule in deployment.schedules],
            }
            for deployment in await every(client.read_deployments)
            if deployment.work_pool_name == work_pool() or tag() in deployment.tags
        },
        automations=automations,
        documents=await _documents(client, automations),
    )


async def put_documents_back(
    client: PrefectClient, desk: PrefectSettings
) -> tuple[PrefectSettings, list[str]]:
    """Make the blocks the automations' actions need; the desk with their new ids, and problems."""
    new: dict[str, str] = {}
    problems = []
    for old, document in desk.documents.items():
        try:
            new[old] = await _make(client, document)
        except (ObjectNotFound, PrefectHTTPStatusError) as error:
            problems.append(
                f"block {document['type']}/{document['name']} could not be put back "
                f"({type(error).__name__}): make it again, and choose it in its automation"
            )
    automations = {
        name: row | {kind: [_moved(action, new) for action in row[kind]] for kind in _ACTIONS}
        for name, row in desk.automations.items()
    }
    return PrefectSettings(
        desk.pool_id, desk.pool, desk.queues, desk.variables, desk.deployments, automations
    ), problems


async def put_pool_back(client: PrefectClient, desk: PrefectSettings) -> None:
    """Limits and pauses of the pool and of its queues."""
    await client.update_work_pool(work_pool(), WorkPoolUpdate(**desk.pool))
    for queue in await every(client.read_work_queues, work_pool_name=work_pool()):
        if queue.name in desk.queues:
            await client.update_work_queue(queue.id, **desk.queues[queue.name])


def automation(fields: Mapping[str, Any]) -> AutomationCore:
    """An automation to make, from what was remembered."""
    return AutomationCore.model_validate(dict(fields))


@asynccontextmanager
async def memory(settings: Settings) -> AsyncIterator["Memory"]:
    """The place to remember in: our database, if it is there. Raises nothing of its own."""
    async with AsyncExitStack() as stack:
        memory = Memory(None, None, None)
        if _is_there(settings):
            try:
                store = await stack.enter_async_context(Store.open(settings))
                await require_current(store)
                await stack.enter_async_context(registered(store, new_owner(), "command"))
                memory = Memory(store, await _load(store), None)
            except (StoreError, KeyProblem, DBAPIError, OSError) as error:
                memory = Memory(None, None, str(error))
        yield memory


def _is_there(settings: Settings) -> bool:
    url = make_url(settings.resolved_database_url)
    return not url.drivername.startswith("sqlite") or Path(url.database or "").is_file()


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
        if self.store is None or (desk := await look(client)) is None:
            return False
        await save_desk(self.store, _plain(desk), now=utcnow())
        return True


async def remember(client: PrefectClient, store: Store) -> bool:
    """Remember what is set now, unless this Prefect is a new one that waits for `deploy`."""
    known, desk = await _load(store), await look(client)
    if desk is None or (known is not None and known.pool_id != desk.pool_id):
        return False
    await save_desk(store, _plain(desk), now=utcnow())
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
    known = await load_desk(store) is not None
    return f"{why}; in it is {'what was last seen' if known else 'nothing'} of it"


def _plain(desk: PrefectSettings) -> _Json:
    return {name: getattr(desk, name) for name in PrefectSettings.__dataclass_fields__}


async def _load(store: Store) -> PrefectSettings | None:
    known = await load_desk(store)
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
