"""What Linekeeper's things are called in Prefect: as they are, or after a prefix.

`LINEKEEPER_PREFIX` keeps a workspace that is shared with other flows, or with another Linekeeper,
in order: with `plant-b` the deployment `digest` is `digest/plant-b-digest`. Flows, work pool and
artifacts keep their names.
"""

import os
from collections.abc import Awaitable, Callable, Collection
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from linekeeper.settings import Settings

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

PAUSED_VARIABLE = "linekeeper_paused"
PAGE = 200
"""How many of a listing Prefect gives at once."""
_Listed = TypeVar("_Listed")


def deployment_name(flow: str) -> str:
    return f"{_prefix()}{flow}"


def flow_of(deployment: str) -> str:
    """The flow of one of our deployments, by its name."""
    return deployment.removeprefix(_prefix())


def full_name(flow: str) -> str:
    """The name by which Prefect finds the deployment of `flow`."""
    return f"{flow}/{deployment_name(flow)}"


def tag() -> str:
    """The tag of all our deployments, runs, automations and variables."""
    return f"{_prefix()}linekeeper"


def automation_name(what: str) -> str:
    return f"{_prefix()}Linekeeper: {what}"


def variable_name(name: str) -> str:
    """The name of one of our variables, which has no hyphens."""
    return f"{_prefix().replace('-', '_')}{name}"


def document_name(name: str) -> str:
    """The name of the block document that people call `name`."""
    return f"{_prefix()}{name}"


def called(document: str) -> str | None:
    """What people call a block document; None where it isn't ours."""
    prefix = _prefix()
    return document.removeprefix(prefix) if document.startswith(prefix) else None


async def every(read: Callable[..., Awaitable[list[_Listed]]], **filters: Any) -> list[_Listed]:
    """All that `read`, a method of Prefect's client, lists: page by page."""
    listed: list[_Listed] = []
    while True:
        page = await read(**filters, limit=PAGE, offset=len(listed))
        listed += page
        if len(page) < PAGE:
            return listed


async def names_of_flows(client: "PrefectClient", ids: Collection[UUID]) -> dict[UUID, str]:
    from prefect.client.schemas.filters import FlowFilter, FlowFilterId

    if not ids:
        return {}
    wanted = FlowFilter(id=FlowFilterId(any_=list(ids)))
    return {flow.id: flow.name for flow in await every(client.read_flows, flow_filter=wanted)}


def _prefix() -> str:
    try:
        written = Path(".env").stat().st_mtime_ns
    except OSError:
        written = None
    return _prefix_in(os.environ.get("LINEKEEPER_PREFIX"), str(Path.cwd()), written)


@lru_cache
def _prefix_in(*_settings: str | int | None) -> str:
    """The prefix where the settings are so: to read them all takes milliseconds, for each name."""
    prefix = Settings().prefix
    return f"{prefix}-" if prefix else ""
