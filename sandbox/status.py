"""The status of one connection, asked with its own token. A sweep asks it thousands of times a
second, so it goes past the router: see `app.Sandbox`."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Scope, Send

from .answers import Refused, bearer, error, json, spoilt, world_of
from .fleet import SYNC_EVERY, Connection
from .world import World

PATH = "/api/integrations/current"


def refusal(connection: Connection | None) -> Refused | None:
    """Why a call with this connection's token is refused whatever it asks for."""
    if connection is None:
        return Refused(401, "AUTHENTICATION_FAILED", "The token is missing, wrong or expired.")
    if not connection.active:
        return Refused(403, "CONNECTION_INACTIVE", "Not enough credits for this connection.")
    if connection.offline:
        return Refused(
            503, "SYSTEM_UNAVAILABLE", f"{connection.provider.name} does not answer.", {}
        )
    return None


async def delay(connection: Connection) -> None:
    if connection.slow_seconds:
        await asyncio.sleep(connection.slow_seconds)


def status_body(world: World, connection: Connection) -> bytes:
    """The answer for a connection that answers; encoded once for every synchronization."""
    slot = int(world.now()) // SYNC_EVERY
    if connection.cached_slot != slot:
        held = connection.sync_held_at
        synced = held or datetime.fromtimestamp(slot * SYNC_EVERY, UTC)
        connection.cached_status = orjson.dumps(
            {
                "data": {
                    "id": connection.id,
                    "company_name": connection.customer,
                    "email": connection.email,
                    "provider": connection.provider.slug,
                    "updated_at": connection.updated_at.isoformat().replace("+00:00", "Z"),
                    "sync_status": connection.sync_status(),
                    "sync_updated_at": synced.isoformat().replace("+00:00", "Z"),
                }
            }
        )
        connection.cached_slot = slot
    return connection.cached_status


async def answer_status(world: World, scope: Scope, send: Send) -> bool:
    """Answer a plain, healthy status call at once; False leaves it to the router."""
    if world.faults.status or world.settings.earlier_status:
        return False
    value = b""
    for name, content in scope["headers"]:
        if name == b"authorization":
            value = content
            break
    if value[:7].lower() != b"bearer ":
        return False
    connection = world.tokens.owner(value[7:].strip().decode("latin-1"))
    if connection is None or refusal(connection) is not None or connection.slow_seconds:
        return False
    body = status_body(world, connection)
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
                (b"x-request-id", world.request_id().encode()),
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})
    return True


async def current(request: Request) -> Response:
    world = world_of(request)
    if world.settings.earlier_status:
        raise Refused(404, "NOT_FOUND", "There is no such route.")
    if world.faults.status:
        return spoilt(world, world.faults.status, {"data": {"sync_status": "cut short"}})
    connection = world.tokens.owner(bearer(request))
    if connection is not None:
        await delay(connection)
    refused = refusal(connection)
    if refused is not None or connection is None:
        return error(world, refused or Refused(401, "AUTHENTICATION_FAILED", "No token."))
    return Response(
        status_body(world, connection),
        headers={"X-Request-Id": world.request_id()},
        media_type="application/json",
    )


async def disconnect(request: Request) -> Response:
    world = world_of(request)
    connection = world.tokens.owner(bearer(request))
    if connection is None:
        raise Refused(401, "AUTHENTICATION_FAILED", "The token is missing, wrong or expired.")
    world.remove(connection)
    return Response(status_code=204)


async def old_sync_status(request: Request) -> Response:
    connection = world_of(request).tokens.owner(bearer(request))
    refused = refusal(connection)
    if refused is not None or connection is None:
        raise refused or Refused(401, "AUTHENTICATION_FAILED", "No token.")
    return json({"status": connection.sync_status()})


ROUTES = [
    Route(PATH, current, methods=["GET"]),
    Route(PATH, disconnect, methods=["DELETE"]),
    Route("/api/integrations/sync/status", old_sync_status, methods=["GET"]),
]
