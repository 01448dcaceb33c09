"""Makini Link: where the customer logs in and is sent back to the operator with a code."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from .answers import world_of
from .fleet import PROVIDERS, Connection
from .rendering import page
from .settings import is_loopback
from .world import World

SHOWN = 500
"""A longer fleet is chosen from by typing a name."""


async def authorize(request: Request) -> Response:
    world = world_of(request)
    asked = dict(request.query_params)
    return _page(world, asked, _fault(world, asked))


async def answered(request: Request) -> Response:
    """The form was sent: back to the operator with a code, or with the refusal."""
    world = world_of(request)
    form = {key: str(value) for key, value in (await request.form()).items()}
    fault = _fault(world, form)
    if fault:
        return _page(world, form, fault)
    if form.get("answer") == "deny":
        return _back(
            form, error="access_denied", error_description="The customer declined to connect."
        )
    if not form.get("username") or not form.get("password"):
        return _page(world, form, "", "Enter the user name and password of the system.")
    if form["password"] == "wrong":  # noqa: S105  a password to fail with, told on the page
        return _page(world, form, "", "The system refuses this user name and password.")
    connection = _chosen(world, form.get("connection", "").strip(), form["username"])
    if connection is None:
        return _page(world, form, "", "Choose one of the systems.")
    connection = world.log_in(connection)
    return _back(form, code=world.tokens.code(connection, form["redirect_uri"]))


def _chosen(world: World, choice: str, username: str) -> Connection | None:
    slug = choice.removeprefix("new:")
    if slug != choice:
        if slug not in PROVIDERS:
            return None
        provider = PROVIDERS[slug]
        email = username if "@" in username else f"{username}@new-customer.example"
        return world.create(
            name=f"New customer · {provider.name}", email=email, provider=slug, pending=True
        )
    connection = world.find(choice)
    if connection is not None:
        return connection
    return next((c for c in world.connections.values() if c.name == choice), None)


def _fault(world: World, asked: dict[str, Any]) -> str:
    if asked.get("client_id") != world.settings.client_id:
        return "This link names a client that Makini doesn't know."
    if asked.get("response_type") != "code":
        return "This link doesn't ask for a code (response_type)."
    target = str(asked.get("redirect_uri", ""))
    parts = urlsplit(target)
    local = parts.scheme in ("http", "https") and is_loopback(parts.hostname or "")
    if not (local or target in world.settings.redirects):
        return "This link leads back to an address that isn't registered (redirect_uri)."
    return ""


def _back(form: dict[str, str], **answer: str) -> Response:
    parts = urlsplit(form["redirect_uri"])
    if form.get("state"):
        answer["state"] = form["state"]
    query = "&".join(filter(None, (parts.query, urlencode(answer))))
    return RedirectResponse(urlunsplit(parts._replace(query=query)), 302)


def _page(world: World, asked: dict[str, Any], fault: str, problem: str = "") -> Response:
    fleet = sorted(world.connections.values(), key=lambda c: (c.login_ok, c.name))
    return page(
        "authorize.html",
        400 if fault else 422 if problem else 200,
        asked=asked,
        fault=fault,
        problem=problem,
        connections=fleet if len(fleet) <= SHOWN else [],
        count=len(fleet),
        providers=PROVIDERS.values(),
        chosen=asked.get("connection") or asked.get("login_hint") or "",
    )


ROUTES = [
    Route("/oauth/authorize", authorize, methods=["GET"]),
    Route("/oauth/authorize", answered, methods=["POST"]),
]
