"""The controls: break and fix connections, spoil webhooks and answers, ask for the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from .answers import Refused, body_of, json, world_of
from .faults import settable
from .fleet import PROVIDERS, Connection
from .slack import SlackError
from .truth import named, shown
from .webhooks import FAULTS
from .world import World

_ACTIONS: dict[str, Callable[[World, Connection, dict[str, Any]], None]] = {
    "change-credentials": lambda world, c, _: world.change_credentials(c),
    "restore-credentials": lambda world, c, _: world.restore_credentials(c),
    "go-offline": lambda world, c, _: world.go_offline(c),
    "come-online": lambda world, c, _: world.come_online(c),
    "expire-token": lambda world, c, body: world.expire_token(c, refresh=_yes(body, "refresh")),
    "deactivate": lambda world, c, _: world.deactivate(c),
    "activate": lambda world, c, _: world.activate(c),
    "fail-sync": lambda world, c, _: world.fail_sync(c),
    "mend-sync": lambda world, c, _: world.mend_sync(c),
    "stall-sync": lambda world, c, _: world.stall_sync(c),
    "lag-status": lambda world, c, body: world.lag_status(c, lags=_yes(body, "lags", True)),
    "slow": lambda _, c, body: _set(c, "slow_seconds", _number(body, "seconds", 12.0)),
    "status": lambda _, c, body: _set(c, "status_override", body.get("status") or None),
    "disconnect": lambda world, c, _: world.remove(c),
    "mend": lambda world, c, _: world.mend(c),
    "succeed": lambda world, c, body: _succeed(world, c, str(body.get("how") or "rename")),
}


async def act(request: Request) -> Response:
    """`POST /_control/connections/{key}/{action}`."""
    world = world_of(request)
    connection = named(world, request.path_params["key"])
    _action(request)(world, connection, await body_of(request))
    return _done(request, shown(connection))


async def act_on_provider(request: Request) -> Response:
    """`POST /_control/providers/{provider}/{action}`: all its connections at once."""
    world = world_of(request)
    slug = request.path_params["provider"]
    if slug not in PROVIDERS:
        raise Refused(404, "NOT_FOUND", f"No provider {slug!r}; there are {list(PROVIDERS)}.")
    action, body = _action(request), await body_of(request)
    members = [c for c in world.connections.values() if c.provider.slug == slug]
    for connection in members:
        action(world, connection, body)
    return _done(request, {"connections": [shown(c) for c in members]})


async def add_connection(request: Request) -> Response:
    """`POST /_control/connections` {name, provider, email?, pending?}: a customer arrives."""
    world, body = world_of(request), await body_of(request)
    try:
        connection = world.create(
            name=str(body.get("name", "")),
            email=str(body.get("email", "it@new-customer.example")),
            provider=str(body.get("provider", "")),
            pending=_yes(body, "pending"),
        )
    except ValueError as problem:
        raise Refused(400, "INVALID_REQUEST", str(problem)) from None
    return json(shown(connection), 201)


async def tokens(request: Request) -> Response:
    """The connection's live pair, made if it has none: what the operator's product holds."""
    world = world_of(request)
    connection = named(world, request.path_params["key"])
    pair = world.tokens.current(connection) or world.tokens.pair(connection)
    return json(
        {
            "access_token": pair.access,
            "refresh_token": pair.refresh,
            "expires_in": pair.expires_at,
        }
    )


async def spoil_webhooks(request: Request) -> Response:
    """`{drop|duplicate|reorder|delay|forge: share}`; what is not named stays as it is."""
    world, body = world_of(request), await body_of(request)
    unknown = body.keys() - set(FAULTS)
    if unknown:
        raise Refused(400, "INVALID_REQUEST", f"Unknown: {sorted(unknown)}; there are {FAULTS}.")
    shares = {name: _number(body, name, 0.0) for name in body}
    if any(not 0 <= share <= 1 for share in shares.values()):
        raise Refused(400, "INVALID_REQUEST", "A share is a number from 0 to 1.")
    world.webhooks.shares.update(shares)
    return _done(request, world.webhooks.shares)


async def send_webhook(request: Request) -> Response:
    """`{body, connection?, path?}`: any body, signed like the rest."""
    world, body = world_of(request), await body_of(request)
    content = body.get("body")
    event = content.get("type") or content.get("event") if isinstance(content, dict) else None
    world.webhooks.raw(
        str(body.get("connection", "")),
        str(event or ""),
        content,
        path=str(body.get("path", "")),
    )
    return json({"status": "queued"}, 202)


async def change_records(request: Request) -> Response:
    """`{connection?, entity?, make, change, delete, announce?, per_webhook?}` or `{put: [...]}`.

    Without a connection every number is spread over the fleet; without an entity, over the
    first two of the system (work orders and assets).
    """
    world, body = world_of(request), await body_of(request)
    if "put" in body:
        return json({"put": _put(world, body["put"], announce=_yes(body, "announce", True))})
    counts = {name: int(_number(body, name, 0)) for name in ("make", "change", "delete")}
    if any(count < 0 for count in counts.values()):
        raise Refused(400, "INVALID_REQUEST", "make, change and delete are numbers from 0.")
    done: dict[str, dict[str, dict[str, list[str]]]] = {}
    for (connection, entity), share in _spread(world, body, counts).items():
        done.setdefault(connection.key, {})[entity] = world.change_records(
            connection,
            entity,
            **share,
            announce=_yes(body, "announce", True),
            per_webhook=max(1, int(_number(body, "per_webhook", 10))),
        )
    return _done(request, {"records": done})


async def settings(request: Request) -> Response:
    return json(_settings(world_of(request)))


async def set_settings(request: Request) -> Response:
    """Any of the names that `GET` shows, webhook and Slack addresses, and `advance_seconds`."""
    world, body = world_of(request), await body_of(request)
    for name, value in body.items():
        if name == "advance_seconds":
            world.ahead += _number(body, name, 0)
        elif name in settable(world.faults):
            setattr(world.faults, name, str(value or ""))
        elif name in _NUMBERS:
            number = _number(body, name, 0)
            is_whole = name in ("per_minute", "page_limit")
            setattr(world.settings, name, int(number) if is_whole else number)
        elif name in _TEXTS:
            setattr(world.settings, name, str(value) if value is not None else None)
        elif name == "webhook_per_connection":
            world.settings.webhook_per_connection = _yes(body, name)
        else:
            raise Refused(400, "INVALID_REQUEST", f"There is no setting {name!r}.")
    return _done(request, _settings(world))


async def slack_messages(request: Request) -> Response:
    slack = world_of(request).slack
    channel = request.query_params.get("channel", "").lstrip("#")
    messages = [m for m in slack.snapshot() if channel in ("", m["channel"], m["channel_id"])]
    return json({"messages": messages, "views": slack.views, "faults": asdict(slack.faults)})


async def spoil_slack(request: Request) -> Response:
    """`{mode, share?, method?, channel?, timeout_seconds?, rate_limit?}`, `{channels: {name:
    open|archived|left|missing}}`, `{delete: {channel, ts}}`; `{mode: ""}` fixes it."""
    slack, body = world_of(request).slack, await body_of(request)
    for name, state in (body.pop("channels", None) or {}).items():
        channel = slack.open_channel(str(name))
        channel.archived = state == "archived"
        channel.member = state != "left"
        if state == "missing":
            del slack.channels[channel.id]
    gone = body.pop("delete", None)
    if gone:
        try:
            slack.delete(str(gone.get("channel", "")), str(gone.get("ts", "")))
        except SlackError as problem:
            raise Refused(404, "NOT_FOUND", f"Slack says {problem.error}.") from None
    mode = body.pop("status", None)
    if mode is not None:
        body["mode"] = mode
    for name, value in body.items():
        if name not in settable(slack.faults):
            raise Refused(400, "INVALID_REQUEST", f"Slack has no fault {name!r}.")
        kept = getattr(slack.faults, name)
        setattr(slack.faults, name, type(kept)(value if value is not None else ""))
    return _done(request, asdict(slack.faults))


_NUMBERS = ("per_minute", "page_limit", "latency_ms", "retry_scale", "webhook_timeout")
_TEXTS = (
    "webhook_url",
    "webhook_secret",
    "webhook_encoding",
    "webhook_scheme",
    "slack_actions_url",
    "mint_shape",
)


def _settings(world: World) -> dict[str, Any]:
    kept = world.settings
    shown = asdict(world.faults)
    for name in (*_NUMBERS, *_TEXTS):
        if not name.endswith("secret"):
            shown[name] = getattr(kept, name)
    return {**shown, "webhook_per_connection": kept.webhook_per_connection}


async def set_scenario(request: Request) -> Response:
    """`POST /_control/scenario` {calm}: whether the scenario leaves out what breaks something."""
    world = world_of(request)
    world.calm = _yes(await body_of(request), "calm", world.calm)
    return _done(request, {"calm": world.calm})


def _spread(
    world: World, body: dict[str, Any], counts: dict[str, int]
) -> dict[tuple[Connection, str], dict[str, int]]:
    name = body.get("connection")
    chosen = [named(world, str(name))] if name else list(world.connections.values())
    entity = body.get("entity")
    listings: list[tuple[Connection, str]] = []
    for connection in chosen:
        offered = list(world.records.of(connection))
        if entity and entity not in offered:
            if name:
                raise Refused(404, "NOT_FOUND", f"{connection.name} does not offer {entity}.")
            continue
        listings += [(connection, name) for name in ([str(entity)] if entity else offered[:2])]
    shares: dict[tuple[Connection, str], dict[str, int]] = {}
    if listings:
        for what, count in counts.items():
            for listing in world.chance.choices(listings, k=count):
                share = shares.setdefault(listing, {})
                share[what] = share.get(what, 0) + 1
    return shares


def _put(world: World, items: list[dict[str, Any]], *, announce: bool) -> list[str]:
    keys = []
    for item in items:
        connection = named(world, str(item.get("connection", "")))
        try:
            keys.append(
                world.put_record(
                    connection,
                    str(item.get("entity", "")),
                    dict(item.get("record") or {}),
                    announce=announce,
                )
            )
        except KeyError:
            message = f"{connection.name} does not offer {item.get('entity')}."
            raise Refused(404, "NOT_FOUND", message) from None
    return keys


def _action(request: Request) -> Callable[[World, Connection, dict[str, Any]], None]:
    name = request.path_params["action"]
    if name not in _ACTIONS:
        raise Refused(404, "NOT_FOUND", f"No action {name!r}; there are {sorted(_ACTIONS)}.")
    return _ACTIONS[name]


def _done(request: Request, content: object) -> Response:
    """JSON for programs; a person who pressed a button gets the page back."""
    if "text/html" in request.headers.get("accept", ""):
        return RedirectResponse("/", 303)
    return json(content)


def _succeed(world: World, connection: Connection, how: str) -> None:
    try:
        world.succeed(connection, how)
    except ValueError as problem:
        raise Refused(400, "INVALID_REQUEST", str(problem)) from None


def _set(connection: Connection, name: str, value: object) -> None:
    setattr(connection, name, value)


def _yes(body: dict[str, Any], name: str, default: bool = False) -> bool:
    value = body.get(name, default)
    return value.lower() in ("1", "true", "yes", "on") if isinstance(value, str) else bool(value)


def _number(body: dict[str, Any], name: str, default: float) -> float:
    value = body.get(name, default)
    try:
        return float(value)
    except (TypeError, ValueError):
        raise Refused(400, "INVALID_REQUEST", f"{name} must be a number.") from None


ROUTES = [
    Route("/_control/connections", add_connection, methods=["POST"]),
    Route("/_control/connections/{key}/tokens", tokens, methods=["GET"]),
    Route("/_control/connections/{key}/{action}", act, methods=["POST"]),
    Route("/_control/providers/{provider}/{action}", act_on_provider, methods=["POST"]),
    Route("/_control/webhooks", spoil_webhooks, methods=["POST"]),
    Route("/_control/webhooks/send", send_webhook, methods=["POST"]),
    Route("/_control/records", change_records, methods=["POST"]),
    Route("/_control/scenario", set_scenario, methods=["POST"]),
    Route("/_control/settings", settings, methods=["GET"]),
    Route("/_control/settings", set_settings, methods=["POST"]),
    Route("/_control/slack", slack_messages, methods=["GET"]),
    Route("/_control/slack", spoil_slack, methods=["POST"]),
]
