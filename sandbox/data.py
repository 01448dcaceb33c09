"""Makini's Data API: records of a connection, listed, filtered, one by one."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .answers import Refused, bearer, body_of, json, spoilt, world_of
from .fleet import Connection
from .paging import page_of
from .personality import as_shown, changed_since, reached, refuse, shows_deleted
from .records import Collection, Query, parse_moment
from .status import delay, refusal
from .world import World

_FILTER = re.compile(r"filter\[(\w+)(?::(\w+))?\]")
_SORT = re.compile(r"sort\[(\w+)\]")
_COMPARE: dict[str, Callable[[str, str], bool]] = {
    "contains": lambda have, want: want in have,
    "startsWith": lambda have, want: have.startswith(want),
    "gt": lambda have, want: have > want,
    "gteq": lambda have, want: have >= want,
    "lt": lambda have, want: have < want,
    "lted": lambda have, want: have <= want,
}
_AFTER = {"gt", "gteq"}


async def listing(request: Request) -> Response:
    world, _, collection = await _asked(request)
    if world.faults.data_list in {"500", "401", "429", "429-bare", "html"}:
        return spoilt(world, world.faults.data_list, {})
    refuse(world, collection.entity)
    query = _query(world, request, collection)
    chosen = collection.select(query, with_deleted=shows_deleted(world, collection))
    indices = reached(world, collection, chosen)
    shown = page_of(
        request,
        indices,
        lambda page: _bodies(world, collection, page),
        fault=world.faults.data_list,
        overlap=int(world.faults.overlap or 0),
        most=int(world.faults.most_listed or len(indices)),
    )
    return spoilt(world, world.faults.data_list, shown)


async def record(request: Request) -> Response:
    world, _, collection = await _asked(request)
    index = collection.index(
        request.path_params["key"], with_deleted=shows_deleted(world, collection)
    )
    if index is None:
        raise Refused(404, "NOT_FOUND", "There is no such record.")
    refuse(world, collection.entity)
    body = as_shown(world, collection.body(index))
    return json({"data": body}, headers={"X-Request-Id": world.request_id()})


async def write(request: Request) -> Response:
    """Sandbox connections answer writes with success and no effect (MAKINI.md)."""
    world, _, _ = await _asked(request)
    body = await body_of(request)
    key = request.path_params.get("key", "00000000000000")
    return json({"data": {"key": key, **body}}, headers={"X-Request-Id": world.request_id()})


async def _asked(request: Request) -> tuple[World, Connection, Collection]:
    """The collection a request is about, if its token and its system allow it."""
    world = world_of(request)
    connection = world.tokens.owner(bearer(request))
    refused = refusal(connection)
    if refused is not None or connection is None:
        raise refused or Refused(401, "AUTHENTICATION_FAILED", "The token is not valid.")
    await delay(connection)
    if not connection.login_ok:
        raise Refused(
            401,
            "AUTHENTICATION_FAILED",
            f"{connection.provider.name} refuses the credentials of this connection.",
        )
    entity = f"{request.path_params['area']}/{request.path_params['entity']}"
    collection = world.records.of(connection).get(entity)
    if collection is None:
        raise Refused(404, "NOT_FOUND", f"{connection.provider.name} does not offer {entity}.")
    return world, connection, collection


def _bodies(world: World, collection: Collection, indexes: Sequence[int]) -> list[dict[str, Any]]:
    return [as_shown(world, collection.body(index)) for index in indexes]


def _query(world: World, request: Request, collection: Collection) -> Query:
    query = Query(match_any=request.query_params.get("filterMatch") == "any")
    for name, value in request.query_params.multi_items():
        if name == "modified_after":
            _understood(world, collection, "modified_after")
            query.since = changed_since(world, _moment(name, value))
        elif match := _SORT.fullmatch(name):
            query.sort, query.descending = match[1], value == "1"
        elif match := _FILTER.fullmatch(name):
            _add(world, collection, query, (match[1], match[2] or ""), value)
        elif name.startswith(("filter[", "sort[")):
            raise Refused(400, "INVALID_FILTER", f"The filter {name[:60]!r} can't be read.")
    return query


def _add(
    world: World, collection: Collection, query: Query, name: tuple[str, str], value: str
) -> None:
    field, operator = name
    if operator and operator not in _COMPARE:
        raise Refused(400, "INVALID_FILTER", f"The operator {operator[:40]!r} is unknown.")
    if field == "updatedAt":
        _understood(world, collection, "filter")
        moment = _moment(field, value)
        if operator in _AFTER and not query.match_any:
            query.since = changed_since(world, moment + (operator == "gt"))
            return
        value = f"{moment:020d}"
        compare = _COMPARE.get(operator, str.__eq__)
        query.tests.append(lambda body: compare(f"{parse_moment(body['updatedAt']):020d}", value))
        return
    compare = _COMPARE.get(operator, str.__eq__)
    query.tests.append(
        lambda body: body.get(field) is not None and compare(str(body[field]), value)
    )


def _understood(world: World, collection: Collection, way: str) -> None:
    """Not every system can be asked for what changed since."""
    if not collection.dated or world.faults.since not in ("", way):
        raise Refused(400, "INVALID_FILTER", "This entity can't be filtered by updatedAt.")


def _moment(name: str, value: str) -> int:
    try:
        return parse_moment(value.replace(" ", "+"))
    except ValueError:
        raise Refused(400, "INVALID_FILTER", f"{name} is not a moment: {value[:40]!r}.") from None


_WRITES = ["POST", "PUT", "PATCH", "DELETE"]

# These match anything under /api/, so they come last.
ROUTES = [
    Route("/api/{area}/{entity}", listing, methods=["GET"]),
    Route("/api/{area}/{entity}", write, methods=_WRITES),
    Route("/api/{area}/{entity}/{key}", record, methods=["GET"]),
    Route("/api/{area}/{entity}/{key}", write, methods=_WRITES),
]
