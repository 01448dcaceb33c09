"""Makini's token endpoint and Admin API."""

from __future__ import annotations

import hmac
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .answers import Refused, bearer, body_of, json, spoilt, world_of
from .fleet import PROVIDERS, Connection
from .paging import page_of
from .tokens import Pair
from .world import World


async def token(request: Request) -> Response:
    """`POST /link/token`: client_credentials, authorization_code, refresh_token."""
    world = world_of(request)
    if world.faults.token:
        return spoilt(world, world.faults.token, {"access_token": "cut short"})
    body = await body_of(request)
    grant = body.get("grant_type")
    world.calls["GRANT", str(grant)] += 1
    _check_client(world, body)
    if grant == "client_credentials":
        value, expires_at = world.tokens.admin()
        return json({"access_token": value, "token_type": "Bearer", "expires_in": expires_at})
    if grant == "authorization_code":
        connection = world.tokens.redeem(
            str(body.get("code", "")), str(body.get("redirect_uri", ""))
        )
        if connection is None or world.find(connection.key) is None:
            raise Refused(400, "INVALID_GRANT", "The code is unknown, expired or already used.")
        return json(_pair(world.tokens.pair(connection), connection))
    if grant == "refresh_token":
        value = str(body.get("refresh_token", ""))
        connection = world.tokens.refresh_owner(value)
        pair = world.tokens.refresh(value)
        if pair is None or connection is None:
            raise Refused(401, "AUTHENTICATION_FAILED", "The refresh token is not valid.")
        return json(_pair(pair, connection))
    raise Refused(400, "UNSUPPORTED_GRANT_TYPE", f"The grant type {grant!r} is not supported.")


async def list_connections(request: Request) -> Response:
    world = _admin(request)
    shown = page_of(
        request,
        [connection for connection in world.connections.values() if not connection.hidden],
        lambda rows: [_listed(world, connection) for connection in rows],
        fault=world.faults.admin_list,
    )
    return spoilt(world, world.faults.admin_list, shown)


async def create_connection(request: Request) -> Response:
    world = _admin(request)
    body = await body_of(request)
    missing = [name for name in ("name", "email", "provider") if not body.get(name)]
    if missing:
        errors = {name: [f"The {name} field is required."] for name in missing}
        return json({"message": "The given data was invalid.", "errors": errors}, 422)
    try:
        connection = world.create(
            name=str(body["name"]), email=str(body["email"]), provider=str(body["provider"])
        )
    except ValueError as problem:
        errors = {"provider": [str(problem)]}
        return json({"message": "The given data was invalid.", "errors": errors}, 422)
    return json({"data": _pair(world.tokens.pair(connection), connection)}, 201)


async def delete_connection(request: Request) -> Response:
    world = _admin(request)
    world.remove(_connection(world, request))
    return Response(status_code=204)


async def read_metadata(request: Request) -> Response:
    world = _admin(request)
    return json({"data": _connection(world, request).user_metadata})


async def write_metadata(request: Request) -> Response:
    world = _admin(request)
    connection = _connection(world, request)
    items = (await body_of(request)).get("items")
    if not isinstance(items, list) or not all(
        isinstance(item, dict) and {"key", "value"} <= item.keys() for item in items
    ):
        raise Refused(400, "INVALID_REQUEST", "The body must be a list of {key, value}.")
    connection.user_metadata = [{"key": i["key"], "value": i["value"]} for i in items]
    connection.updated_at = world.moment()
    return json({"data": connection.user_metadata})


async def mint(request: Request) -> Response:
    """A new token for an existing connection, without the customer."""
    world = _admin(request)
    connection = _connection(world, request)
    if connection.pending:
        raise Refused(403, "CONNECTION_PENDING", "The customer has not connected it yet.")
    if world.settings.mint_shape == "refused":
        raise Refused(403, "FORBIDDEN", "This account may not mint tokens.")
    if world.settings.mint_shape == "pair":
        return json({"data": _pair(world.tokens.pair(connection), connection)})
    value, _ = world.tokens.mint(connection)
    return json({"token": value, "expires_in": 300})


async def platforms(request: Request) -> Response:
    _admin(request)
    return json(
        {
            "data": [
                {
                    "slug": provider.slug,
                    "name": provider.name,
                    "description": f"{provider.name}, tier {provider.tier}",
                    "logo": None,
                }
                for provider in PROVIDERS.values()
            ]
        }
    )


async def client(request: Request) -> Response:
    world = _admin(request)
    redirects = list(world.settings.redirects)
    return json(
        {
            "data": {
                "id": world.settings.client_id,
                "name": "Sandbox client",
                "default_redirect": redirects[0] if redirects else None,
                "redirects": redirects,
            }
        }
    )


def _check_client(world: World, body: dict[str, Any]) -> None:
    for name, expected in (
        ("client_id", world.settings.client_id),
        ("client_secret", world.settings.client_secret),
    ):
        given = str(body.get(name, "")).encode()
        if not hmac.compare_digest(given, expected.encode()):
            raise Refused(401, "AUTHENTICATION_FAILED", "The client id or secret is wrong.")


def _admin(request: Request) -> World:
    world = world_of(request)
    if not world.tokens.is_admin(bearer(request)):
        raise Refused(401, "AUTHENTICATION_FAILED", "The admin token is missing or expired.")
    return world


def _connection(world: World, request: Request) -> Connection:
    connection = world.find(request.path_params["key"])
    if connection is None or connection.key in world.faults.ended.split(","):
        raise Refused(404, "NOT_FOUND", "There is no such connection.")
    return connection


def _pair(pair: Pair, connection: Connection) -> dict[str, Any]:
    """`expires_in` is an absolute time, for every third connection as a string (MAKINI.md)."""
    return {
        "access_token": pair.access,
        "refresh_token": pair.refresh,
        "token_type": "bearer" if connection.index % 2 else "Bearer",
        "expires_in": str(pair.expires_at) if connection.index % 3 == 2 else pair.expires_at,
    }


def _listed(world: World, connection: Connection) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "key": connection.key,
        "name": connection.name,
        "company_name": connection.customer,
        "email": connection.email,
        "status": connection.list_status(),
        "integration_name": connection.provider.name,
        "redirect": None,
        "scopes": [],
        "tags": connection.tags,
        "user_metadata": connection.user_metadata,
        "client_id": world.settings.client_id,
        "created_at": connection.created_at.isoformat().replace("+00:00", "Z"),
        "updated_at": connection.updated_at.isoformat().replace("+00:00", "Z"),
        "connected_at": (
            connection.connected_at.isoformat().replace("+00:00", "Z")
            if connection.connected_at
            else None
        ),
    }
    if world.settings.listed_ids and connection.id != connection.key:
        shown["id"] = connection.id
    return shown


ROUTES = [
    Route("/link/token", token, methods=["POST"]),
    Route("/api/system/connections", list_connections, methods=["GET"]),
    Route("/api/system/connections", create_connection, methods=["POST"]),
    Route("/api/system/connections/{key}", delete_connection, methods=["DELETE"]),
    Route("/api/system/connections/{key}/metadata", read_metadata, methods=["GET"]),
    Route("/api/system/connections/{key}/metadata", write_metadata, methods=["POST"]),
    Route("/api/system/connections/{key}/token", mint, methods=["POST"]),
    Route("/api/system/platforms", platforms, methods=["GET"]),
    Route("/api/system/client", client, methods=["GET"]),
]
