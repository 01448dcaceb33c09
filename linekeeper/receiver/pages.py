"""The routes that are not webhooks: alive, can store, Prometheus."""

import asyncio
import time

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from linekeeper.receiver.beat import Beat
from linekeeper.receiver.metrics import CONTENT_TYPE_LATEST, exposition

READY_SECONDS = 4.0
"""How long storing may take before we are not ready."""
ASK_AGAIN_SECONDS = 1.0
"""A write at most this often, however many ask."""


class Readiness:
    """Whether the database takes writes, asked of the database itself."""

    def __init__(self, beat: Beat) -> None:
        self._beat = beat
        self._writing: asyncio.Task[None] | None = None
        self._asked = 0.0

    async def ready(self) -> bool:
        """True if a write was committed just now; says so, or not, within `READY_SECONDS`."""
        stale = time.monotonic() - self._asked > ASK_AGAIN_SECONDS
        if self._writing is None or (self._writing.done() and stale):
            self._writing = asyncio.create_task(self._beat.can_store(), name="readiness")
            self._writing.add_done_callback(lambda task: task.cancelled() or task.exception())
            self._asked = time.monotonic()
        # Not cancelled when it is late: the driver would first wait for the lock all the same.
        done, _ = await asyncio.wait({self._writing}, timeout=READY_SECONDS)
        return bool(done) and self._writing.exception() is None


def routes(beat: Beat) -> list[Route]:
    """`/healthz`, `/readyz`, `/metrics`."""
    readiness = Readiness(beat)

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def readyz(_: Request) -> Response:
        if await readiness.ready():
            return JSONResponse({"status": "ready"})
        return JSONResponse(
            {"status": "storage down"}, status_code=503, headers={"Retry-After": "5"}
        )

    async def metrics(_: Request) -> Response:
        return Response(exposition(), media_type=CONTENT_TYPE_LATEST)

    return [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]
