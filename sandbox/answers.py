"""Answers of the API: JSON, errors in Makini's manner, and answers that are spoilt."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from .world import World


class Refused(Exception):
    """A request that gets an error body; raised anywhere, answered in one place."""

    def __init__(
        self, status: int, code: str, message: str, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers or {}


_TYPES = {400: "invalid_request", 401: "authentication", 403: "permission", 429: "rate_limit"}


def json(content: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, "application/json")


def error(world: World, refused: Refused) -> Response:
    """Code, type, message and request id, the id in `X-Request-Id` as well."""
    request_id = world.request_id()
    body = {
        "code": refused.code,
        "type": _TYPES.get(refused.status, "api_error"),
        "message": refused.message,
        "request_id": request_id,
    }
    return json(body, refused.status, {"X-Request-Id": request_id, **refused.headers})


def spoilt(world: World, fault: str, good: dict[str, Any]) -> Response:
    """`good` as it goes out under `fault` (the words of `Faults`); none: as it is."""
    if fault == "500":
        return error(world, Refused(500, "INTERNAL_ERROR", "Something went wrong on our side."))
    if fault == "401":
        return error(world, Refused(401, "AUTHENTICATION_FAILED", "The token is not valid."))
    if fault in {"429", "429-bare"}:
        headers = {"Retry-After": "2"} if fault == "429" else {}
        return error(world, Refused(429, "RATE_LIMIT_EXCEEDED", "Too many requests.", headers))
    if fault == "html":
        return Response(
            "<!doctype html><title>502 Bad Gateway</title><h1>502 Bad Gateway</h1>",
            media_type="text/html",
        )
    headers = {"X-Request-Id": world.request_id()}
    if fault == "empty":
        good = {"data": None}
    if fault == "truncated":
        whole = orjson.dumps(good)
        return Response(whole[: len(whole) * 2 // 3], 200, headers, "application/json")
    return json(good, 200, headers)


def world_of(request: Request) -> World:
    world: World = request.app.world
    return world


def bearer(request: Request) -> str:
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else ""


async def body_of(request: Request) -> dict[str, Any]:
    """The fields of a JSON or form body; an empty one has none.

    Raises:
        Refused: 400, it can't be read.
    """
    kind = request.headers.get("content-type", "")
    if "form" in kind:
        return dict(await request.form())
    raw = await request.body()
    if not raw:
        return {}
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise Refused(400, "INVALID_REQUEST", "The body is not JSON.") from None
    if isinstance(body, list):
        return {"items": body}
    if not isinstance(body, dict):
        raise Refused(400, "INVALID_REQUEST", "The body is not a JSON object.")
    return body
