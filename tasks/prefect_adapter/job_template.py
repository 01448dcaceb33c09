"""The base job template of the work pool: from a file, or as the type of worker brings it."""

import asyncio
import json
from pathlib import Path
from typing import Any

from prefect.client.orchestration import PrefectClient
from prefect.workers.process import ProcessWorker

from linekeeper.refusal import UserError
from linekeeper.settings import Settings


async def base_job_template(client: PrefectClient, settings: Settings) -> dict[str, Any]:
    """The one that the settings name, else that of their type of worker. Raises `UserError`."""
    kind = settings.work_pool_type
    if (file := settings.work_pool_template) is not None:
        return await asyncio.to_thread(_read_template, file)
    if kind == "process":
        return ProcessWorker.get_default_base_job_template()
    known = {
        worker: fields["default_base_job_configuration"]
        for workers in (await client.read_worker_metadata()).values()
        for worker, fields in workers.items()
    }
    if kind not in known:
        raise UserError(
            f"LINEKEEPER_WORK_POOL_TYPE: Prefect knows no worker of the type {kind!r}; "
            f"it knows {', '.join(sorted(known))}"
        )
    template: dict[str, Any] = known[kind]
    return template


def _read_template(file: Path) -> dict[str, Any]:
    name = "LINEKEEPER_WORK_POOL_TEMPLATE"
    try:
        template = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{name}: {file} can't be read: {error}") from error
    if not isinstance(template, dict) or not {"job_configuration", "variables"} <= set(template):
        raise UserError(f"{name}: {file} is no base job template (docs/deploy.md has two)")
    return template
