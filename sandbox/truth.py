"""What is really so: states, records, webhooks, and how often Makini was called."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .answers import Refused, json, world_of
from .fleet import Connection
from .world import World


async def connections(request: Request) -> Response:
    world = world_of(request)
    return json({"data": [shown(c) for c in world.connections.values()]})


async def truth(request: Request) -> Response:
    """What is really so: records, states, webhooks. `?connection=`, `?entity=`,
    `?records=0`, `?webhooks=0` narrow it."""
    world, query = world_of(request), request.query_params
    name = query.get("connection")
    chosen = [named(world, name)] if name else list(world.connections.values())
    answer: dict[str, Any] = {"states": {c.key: c.state for c in chosen}}
    if query.get("records") != "0":
        answer["records"] = {c.key: world.records.truth(c, query.get("entity")) for c in chosen}
    if query.get("webhooks") != "0":
        keys = {c.key for c in chosen} if name else None
        answer["webhooks"] = [
            sent.as_dict() for sent in world.webhooks.log if not keys or sent.connection in keys
        ]
    answer["webhook_counts"] = dict(world.webhooks.counts)
    answer["webhooks_outstanding"] = world.webhooks.outstanding
    return json(answer)


async def calls(request: Request) -> Response:
    """How often each route was called, and how many of the calls change something at Makini."""
    world = world_of(request)
    counted = {f"{method} {route}": n for (method, route), n in sorted(world.calls.items())}
    writes = sum(n for (method, route), n in world.calls.items() if _is_write(method, route))
    total = sum(n for (method, _), n in world.calls.items() if method not in ("GRANT", "ANSWERED"))
    return json({"calls": counted, "total": total, "writes": writes, "slack": world.slack.calls})


async def forget_calls(request: Request) -> Response:
    world = world_of(request)
    world.calls.clear()
    world.slack.calls.clear()
    return Response(status_code=204)


def shown(connection: Connection) -> dict[str, Any]:
    return {
        "key": connection.key,
        "id": connection.id,
        "name": connection.name,
        "customer": connection.customer,
        "provider": connection.provider.slug,
        "hosting": connection.hosting,
        "tier": connection.provider.tier,
        "state": connection.state,
    }


def named(world: World, name: str) -> Connection:
    connection = world.find(name)
    if connection is None:
        raise Refused(404, "NOT_FOUND", f"There is no connection {name!r}.")
    return connection


def _is_write(method: str, route: str) -> bool:
    if method == "GRANT":
        return route == "refresh_token"
    return route.startswith("/api/") and method not in ("GET", "HEAD", "ANSWERED")


ROUTES = [
    Route("/_control/connections", connections, methods=["GET"]),
    Route("/_control/truth", truth, methods=["GET"]),
    Route("/_control/calls", calls, methods=["GET"]),
    Route("/_control/calls", forget_calls, methods=["DELETE"]),
]
