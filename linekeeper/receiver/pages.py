"""The routes that are not webhooks: alive, can store, Prometheus."""

import asyncio
import logging
import os

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    generate_latest,
    multiprocess,
)
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from linekeeper.clock import monotonic, utcnow
from linekeeper.receiver.away import alive, not_ready
from linekeeper.receiver.beat import Beat
from linekeeper.runtime import Runtime
from linekeeper.store import KeyProblem
from linekeeper.views.gauges import down, read_gauges
from linekeeper.views.gauges import exposition as of_gauges

READY_SECONDS = 4.0
"""How long storing may take before we are not ready."""
ASK_AGAIN_SECONDS = 1.0
"""A write at most this often, however many ask."""
GAUGES_SECONDS = 10.0
"""How old what the database says may be."""

log = logging.getLogger(__name__)


def of_receiver() -> bytes:
    """What Prometheus sees of the receiver; the figures of several workers are added up."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # theirs
    return generate_latest(registry)


class Readiness:
    """Whether the database takes writes, asked of the database itself."""

    def __init__(self, beat: Beat) -> None:
        self._beat = beat
        self._writing: asyncio.Task[None] | None = None
        self._asked = 0.0

    async def ready(self) -> bool:
        """True if a write was committed just now; says so, or not, within `READY_SECONDS`."""
        stale = monotonic() - self._asked > ASK_AGAIN_SECONDS
        if self._writing is None or (self._writing.done() and stale):
            self._writing = asyncio.create_task(self._beat.can_store(), name="readiness")
            self._writing.add_done_callback(lambda task: task.cancelled() or task.exception())
            self._asked = monotonic()
        # Not cancelled when it is late: the driver would first wait for the lock all the same.
        done, _ = await asyncio.wait({self._writing}, timeout=READY_SECONDS)
        return bool(done) and self._writing.exception() is None


class Gauges:
    """What the database says of consumer, outbox, budget and fleet; read now and then."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._lock = asyncio.Lock()
        self._text, self._read = b"", 0.0

    async def text(self) -> bytes:
        """Prometheus' format, at most `GAUGES_SECONDS` old; that it is down where it is down."""
        async with self._lock:
            if not self._text or monotonic() - self._read > GAUGES_SECONDS:
                self._text = await self._look()
                self._read = monotonic()
            return self._text

    async def _look(self) -> bytes:
        runtime = self._runtime
        try:
            async with asyncio.timeout(READY_SECONDS):
                configuration = await runtime.configuration()
                return of_gauges(await read_gauges(runtime.store, configuration, now=utcnow()))
        except (SQLAlchemyError, KeyProblem, OSError, TimeoutError) as error:
            log.warning("receiver: metrics: %s", type(error).__name__)
            return down()


def routes(beat: Beat, runtime: Runtime) -> list[Route]:
    """`/healthz`, `/readyz`, `/metrics`."""
    readiness, gauges = Readiness(beat), Gauges(runtime)

    async def healthz(_: Request) -> Response:
        return alive()

    async def readyz(_: Request) -> Response:
        if await readiness.ready():
            return JSONResponse({"status": "ready"})
        return not_ready()

    async def metrics(_: Request) -> Response:
        return Response(of_receiver() + await gauges.text(), media_type=CONTENT_TYPE_LATEST)

    return [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]
