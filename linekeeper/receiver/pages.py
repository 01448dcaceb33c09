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
        self._lock = asyncio.Lock()
        self._asked = 0.0
        self._ready = False

    async def ready(self) -> bool:
        """True if a write was committed just now."""
        async with self._lock:
            if time.monotonic() - self._asked > ASK_AGAIN_SECONDS:
                try:
                    await asyncio.wait_for(self._beat.can_store(), READY_SECONDS)
                    self._ready = True
                except Exception:  # whatever it is, we can't store
                    self._ready = False
                self._asked = time.monotonic()
            return self._ready


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
