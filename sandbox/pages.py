"""The first page: what this is, and the fleet with buttons to break and fix it."""

from __future__ import annotations

from collections import Counter

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from .answers import world_of
from .fleet import PROVIDERS
from .people import customers_csv
from .rendering import page

SHOWN = 200
"""Rows of the table; a larger fleet is searched."""


async def index(request: Request) -> Response:
    world = world_of(request)
    wanted = request.query_params.get("q", "").strip()
    rows = [
        c
        for c in world.connections.values()
        if wanted.casefold() in f"{c.name} {c.key} {c.provider.slug} {c.state}".casefold()
    ]
    rows.sort(key=lambda c: c.state == "healthy")
    states = Counter(c.state for c in world.connections.values())
    return page(
        "index.html",
        connections=rows[:SHOWN],
        hidden=max(0, len(rows) - SHOWN),
        wanted=wanted,
        total=len(world.connections),
        states=states,
        providers=[
            (provider, members)
            for provider in PROVIDERS.values()
            if (members := sum(c.provider == provider for c in world.connections.values()))
        ],
        webhooks=world.webhooks,
        settings=world.settings,
        calls=sum(n for (method, _), n in world.calls.items() if method in ("GET", "POST")),
    )


async def customers(request: Request) -> Response:
    """The customers, as a file to import."""
    names = (connection.customer for connection in world_of(request).connections.values())
    return PlainTextResponse(customers_csv(names), media_type="text/csv")


ROUTES = [
    Route("/", index, methods=["GET"]),
    Route("/customers.csv", customers, methods=["GET"]),
]
