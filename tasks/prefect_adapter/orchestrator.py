"""What the core asks of Prefect, done with Prefect's own client; for a server and for Cloud."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Self
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterName,
)
from prefect.client.schemas.responses import SetStateStatus
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

from linekeeper.clock import monotonic, utcnow
from linekeeper.notify.view import Links
from linekeeper.orchestrator import Blocks, FeedEvent, OrchestratorUnavailable, RunRequest
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.engine import chunked
from linekeeper.watch.alerts import Alert
from tasks.prefect_adapter import block_documents
from tasks.prefect_adapter import settings as prefect_settings
from tasks.prefect_adapter.case_pages import keep_case_pages
from tasks.prefect_adapter.links import find_links
from tasks.prefect_adapter.lost_runs import LostRuns
from tasks.prefect_adapter.lost_steps import end_steps_of_what_is_over
from tasks.prefect_adapter.names import full_name
from tasks.prefect_adapter.pages import keep_pages, put_artifact
from tasks.prefect_adapter.schedules import plan_again
from tasks.prefect_adapter.server import prefect_at, work_pool
from tasks.prefect_adapter.sight import Sight, look
from tasks.prefect_adapter.waiting_tags import untag_what_is_over

CALL_SECONDS = 20.0
"""How long one call may take, repeats by Prefect's client included."""
EVENTS_A_CALL = 100
_AWAY = {401, 403, 408, 429}


class PrefectOrchestrator:
    """`linekeeper.orchestrator.Orchestrator` over Prefect's API."""

    def __init__(self, client: PrefectClient) -> None:
        self._client = client
        self._lost_runs = LostRuns()

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings) -> AsyncIterator[Self]:
        """Talk to `PREFECT_API_URL`, else to the server `linekeeper up` starts. Contacts nobody."""
        with prefect_at(settings):
            client = get_client()
        async with client:
            yield cls(client)

    @property
    def url(self) -> str:
        """The API's address, without credentials."""
        return str(self._client.api_url.copy_with(userinfo=b"")).rstrip("/")

    async def start_run(self, run: RunRequest) -> str:
        """Start `run`, or find the one its key started; returns the run's id.

        Raises `OrchestratorUnavailable`; `LookupError` if there is no such deployment.
        """
        async with self._call():
            try:
                name = full_name(run.deployment)
                deployment = await self._client.read_deployment_by_name(name)
            except ObjectNotFound:
                raise LookupError(
                    f"Prefect has no deployment {name}: run `linekeeper deploy`"
                ) from None
            started = await self._client.create_flow_run_from_deployment(
                deployment.id,
                parameters=dict(run.parameters),
                name=run.name,
                tags=run.tags,
                idempotency_key=run.idempotency_key,
            )
        return str(started.id)

    async def resume_run(self, run_id: str, answer: Mapping[str, Any] | None = None) -> None:
        """Resume a suspended run; harmless if it isn't waiting any more, or is gone.

        Raises `OrchestratorUnavailable`; `ValueError` if the run refuses the answer.
        """
        async with self._call():
            try:
                run = await self._client.read_flow_run(UUID(run_id))
            except ObjectNotFound:
                return
            if run.state is None or not run.state.is_paused():
                return
            result = await self._client.resume_flow_run(
                run.id, run_input=None if answer is None else dict(answer)
            )
        if result.status == SetStateStatus.REJECT:
            reason = getattr(result.details, "reason", None) or "no reason given"
            raise ValueError(f"run {run.name!r} did not take the answer: {reason}")

    async def wake_run(self, run_id: str) -> bool:
        """Have a suspended run go on; False if it has to be asked again, because it works.

        Raises `OrchestratorUnavailable`.
        """
        async with self._call():
            try:
                run = await self._client.read_flow_run(UUID(run_id))
            except ObjectNotFound:
                return True
            if run.state is None or run.state.is_final():
                return True
            if not run.state.is_paused():
                return False
            result = await self._client.resume_flow_run(run.id)
        return result.status == SetStateStatus.ACCEPT

    async def emit(self, events: Sequence[FeedEvent]) -> None:
        """Add events to the feed; one whose id is there already is left alone.

        Raises `OrchestratorUnavailable`.
        """
        for chunk in chunked(events, EVENTS_A_CALL):
            body = [_wire(event) for event in chunk]
            async with self._call():
                await self._client.request("POST", "/events", json=body)

    async def read_blocks(self) -> Blocks:
        """The blocks as they are now.

        Raises `OrchestratorUnavailable`, also for a server that is new and not deployed to: that
        it has no blocks is nobody's wish. Raises `BrokenBlocks` if some don't make sense.
        """
        async with self._call():
            try:
                await self._client.read_work_pool(work_pool())
            except ObjectNotFound:
                raise OrchestratorUnavailable(
                    f"Prefect at {self.url} has no pool {work_pool()}: run `linekeeper deploy`"
                ) from None
            return await block_documents.read(self._client)

    async def remember(self, store: Store) -> None:
        """Keep in our database what operators set there. Raises `OrchestratorUnavailable`."""
        async with self._call():
            await prefect_settings.remember(self._client, store)

    async def look(self, alerts: Sequence[Alert] = ()) -> Sight:
        """The workers, a pause, and what became of `alerts`. Raises `OrchestratorUnavailable`."""
        async with self._call():
            return await look(self._client, alerts)

    async def look_after_lost_runs(self) -> list[str]:
        """Let runs go on whose process is gone; which. Raises `OrchestratorUnavailable`.

        Runs that are over lose the tag that says whom they wait for, and have no step at work.
        """
        now = utcnow()
        try:
            async with self._call():
                lost = await self._lost_runs.look(self._client, now=now, seconds=monotonic())
                await untag_what_is_over(self._client)
                await end_steps_of_what_is_over(self._client, now=now)
                return lost
        except OrchestratorUnavailable:
            self._lost_runs.away()
            raise

    async def plan_again(self) -> list[str]:
        """Have runs planned that are due and were not; returns of which deployments.

        Raises `OrchestratorUnavailable`.
        """
        async with self._call():
            return await plan_again(self._client)

    async def keep_pages(self, rt: Runtime) -> bool:
        """Write anew the pages that don't show what is so; returns whether there is more.

        Raises `OrchestratorUnavailable`.
        """
        async with self._call():
            await keep_case_pages(rt, self._client)
            return await keep_pages(rt, self._client)

    async def put_page(self, rt: Runtime, key: str, markdown: str, *, description: str) -> None:
        """Write the artifact `key`. Raises `OrchestratorUnavailable`."""
        async with self._call():
            await put_artifact(rt, self._client, key, markdown, description=description)

    async def find_links(self) -> Links:
        """Where the UI is, and the forms of our deployments. Raises `OrchestratorUnavailable`."""
        async with self._call():
            return await find_links(self._client)

    async def find_run_name(self, deployment: str, part: str, *, since: datetime) -> str | None:
        """The newest name with `part` in it of a run of `deployment` that ended since then.

        Raises `OrchestratorUnavailable`.
        """
        async with self._call():
            runs = await self._client.read_flow_runs(
                flow_filter=FlowFilter(name=FlowFilterName(any_=[deployment])),
                flow_run_filter=FlowRunFilter(
                    name=FlowRunFilterName(like_=part),
                    end_time=FlowRunFilterEndTime(after_=since, is_null_=False),
                ),
                sort=FlowRunSort.END_TIME_DESC,
                limit=1,
            )
        return str(runs[0].name) if runs else None

    @asynccontextmanager
    async def _call(self) -> AsyncIterator[None]:
        """Turns every sign of Prefect being away into `OrchestratorUnavailable`."""
        where = f"Prefect at {self.url}"
        try:
            async with asyncio.timeout(CALL_SECONDS):
                yield
        except PrefectHTTPStatusError as error:
            status = error.response.status_code
            if status in {401, 403}:
                raise OrchestratorUnavailable(
                    f"{where} refuses access ({status}): check PREFECT_API_KEY, or "
                    "PREFECT_API_AUTH_STRING"
                ) from None
            if status >= 500 or status in _AWAY:
                raise OrchestratorUnavailable(f"{where} answered {status}") from None
            raise ValueError(f"{where} refused ({status}): {_detail(error)}") from None
        except httpx.RequestError as error:
            raise OrchestratorUnavailable(
                f"{where} can't be reached ({type(error).__name__})"
            ) from None
        except TimeoutError:
            raise OrchestratorUnavailable(f"{where} did not answer in {CALL_SECONDS:g} s") from None


def _wire(event: FeedEvent) -> dict[str, Any]:
    return {
        "id": event.id,
        "event": event.name,
        "occurred": event.occurred.isoformat(),
        "resource": dict(event.resource),
        "related": [dict(resource) for resource in event.related],
        "payload": dict(event.payload),
    }


def _detail(error: PrefectHTTPStatusError) -> str:
    try:
        answer = error.response.json()
    except ValueError:
        return error.response.reason_phrase
    detail = answer.get("detail", answer) if isinstance(answer, dict) else answer
    return str(detail)[:300]
