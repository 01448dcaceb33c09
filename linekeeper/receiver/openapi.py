"""`GET /openapi.json`: the routes programs use, as an OpenAPI 3.1 document (INTERFACE)."""

from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from linekeeper import __version__

_Json = dict[str, Any]

_TEXT: _Json = {"type": "string"}
_OPTIONAL: _Json = {"type": ["string", "null"]}
_TIME: _Json = {"type": ["string", "null"], "format": "date-time"}
_ERROR: _Json = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string"}},
}


def _object(required: _Json, **optional: _Json) -> _Json:
    return {
        "type": "object",
        "required": list(required),
        "properties": {**required, **optional},
    }


def _answer(description: str, schema: _Json) -> _Json:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _errors(**descriptions: str) -> _Json:
    return {
        status.removeprefix("s"): _answer(text, _ERROR) for status, text in descriptions.items()
    }


_COUNT = {"type": ["integer", "null"]}
_COMPLETENESS = _object(
    {
        "entity": _TEXT,
        "state": {"enum": ["agrees", "differs", "unknown"]},
        "source": _COUNT,
        "here": _COUNT,
        "compared_at": _TIME,
        "agreed_at": _TIME,
        "unknown": {
            "type": "array",
            "items": {"enum": ["not_compared", "no_total", "window", "failing"]},
        },
    }
)
_CONNECTION = _object(
    {
        "id": _TEXT,
        "app": _TEXT,
        "makini_key": _TEXT,
        "label": _TEXT,
        "name": _TEXT,
        "customer": _OPTIONAL,
        "customer_id": _OPTIONAL,
        "provider": _TEXT,
        "hosting": _TEXT,
        "tags": {"type": "array"},
        "setup": _TEXT,
        "health": _TEXT,
        "evidence": _OPTIONAL,
        "health_since": _TIME,
        "last_checked_at": _TIME,
        "last_sync_at": _TIME,
        "last_webhook_at": _TIME,
        "replaced_by": _OPTIONAL,
    },
    incident=_OPTIONAL,
    records={"type": "array", "items": _COMPLETENESS},
    settings={
        "type": "array",
        "description": "What it was configured to by `workflow-configuration`; empty: as its app",
        "items": _object(
            {
                "entity": _TEXT,
                "cadence_minutes": {"type": ["integer", "null"]},
                "keep_bodies": {"type": ["boolean", "null"]},
                "forward_to": _OPTIONAL,
            }
        ),
    },
)
_CHANGE = _object(
    {
        "id": _TEXT,
        "connection": _TEXT,
        "makini_key": _TEXT,
        "entity": _TEXT,
        "key": _TEXT,
        "op": {"enum": ["inserted", "updated", "deleted", "rekeyed"]},
        "updated_at": _TIME,
    },
    old_key={"type": "string", "description": "Of `rekeyed`: the key the record had before"},
)
_HOP = _object(
    {
        "hop": _TEXT,
        "state": {"enum": ["done", "missing", "waiting", "not_needed", "unknown"]},
        "at": _TIME,
        "text": _TEXT,
        "evidence": {"type": "object"},
    }
)
_EXPLANATION = _object(
    {
        "kind": {"enum": ["record", "delivery", "change", "incident", "message"]},
        "subject": _TEXT,
        "title": _TEXT,
        "cause": _TEXT,
        "missing": _OPTIONAL,
        "owner": {"enum": ["makini", "customer", "us", "product", "nobody"]},
        "summary": _TEXT,
        "next_step": _TEXT,
        "hops": {"type": "array", "items": _HOP},
        "limits": {"type": "array", "items": _TEXT},
        "ids": {"type": "object"},
    }
)
_CANARY = _object(
    {
        "id": _TEXT,
        "status": _TEXT,
        "received_at": _TIME,
        "processed_at": _TIME,
        "forward": {"enum": ["none", "pending", "sent", "dead"]},
        "forwarded_at": _TIME,
        "forward_error": _OPTIONAL,
        "echoed_at": _TIME,
    }
)
_KEY_ERRORS = {
    "s401": "No key, or one that is unknown or revoked",
    "s403": "The key lacks the scope",
    "s503": "The database can't be used: try again",
}
_WEBHOOK_ERRORS = {
    "s400": "No valid HTTP",
    "s401": "Invalid signature",
    "s404": "No app of that name",
    "s408": "The body did not come to its end",
    "s413": "Too long",
    "s415": "Compressed",
    "s503": "Storage unavailable, retry later",
}
_BEARER: list[_Json] = [{"key": []}]


def _parameter(name: str, place: str, description: str, schema: _Json = _TEXT) -> _Json:
    return {
        "name": name,
        "in": place,
        "required": place == "path",
        "description": description,
        "schema": schema if place != "path" else {**schema, "minLength": 1},
    }


_CONNECTION_ID = _parameter("connection", "path", "Our id, or Makini's key")
_APP = _parameter("app", "path", "`default` unless named")


def _read(summary: str, scope: str, schema: _Json, *parameters: _Json, **errors: str) -> _Json:
    return {
        "get": {
            "summary": summary,
            "description": f"Scope `{scope}`.",
            "security": _BEARER,
            "parameters": list(parameters),
            "responses": {"200": _answer(summary, schema), **_errors(**_KEY_ERRORS, **errors)},
        }
    }


def _webhook(*parameters: _Json) -> _Json:
    schema = _object({"status": {"enum": ["accepted", "duplicate"]}, "id": _TEXT})
    return {
        "post": {
            "summary": "Store a webhook of Makini",
            "security": [{"signature": []}],
            "parameters": list(parameters),
            "requestBody": {"required": True, "content": {"application/json": {"schema": {}}}},
            "responses": {"200": _answer("It is durable", schema), **_errors(**_WEBHOOK_ERRORS)},
        }
    }


def _state(summary: str, word: str, **more: _Json) -> _Json:
    schema = _object({"status": {"const": word}})
    return {
        "get": {
            "summary": summary,
            "security": [],
            "responses": {"200": _answer(summary, schema), **more},
        }
    }


_NOT_FOUND = {"s404": "No such connection"}
_REPORT = _object(
    {"status": {"type": "integer", "minimum": 0, "maximum": 999}},
    code={"type": ["string", "integer", "null"]},
    request_id={"type": ["string", "integer", "null"]},
    at=_TIME,
)
_HANDED = _object(
    {
        "tokens": {
            "type": "array",
            "maxItems": 1000,
            "items": _object(
                {"connection": _TEXT, "access_token": _TEXT},
                refresh_token=_OPTIONAL,
                expires_at=_TIME,
                expires_in={"type": ["integer", "string", "null"]},
            ),
        }
    }
)
_TAKEN = _object(
    {
        "results": {
            "type": "array",
            "items": _object(
                {
                    "connection": _TEXT,
                    "custody": {"enum": ["owned", "borrowed", None]},
                    "error": _OPTIONAL,
                }
            ),
        }
    }
)

DOCUMENT: _Json = {
    "openapi": "3.1.0",
    "info": {
        "title": "Linekeeper",
        "version": __version__,
        "description": "What Makini posts to, and what the operator's product asks and reports.",
    },
    "components": {
        "securitySchemes": {
            "key": {
                "type": "http",
                "scheme": "bearer",
                "description": "Made by `linekeeper key add`",
            },
            "signature": {"type": "apiKey", "in": "header", "name": "X-Webhook-Signature"},
        }
    },
    "paths": {
        "/webhooks/{app}": _webhook(_APP),
        "/webhooks/{app}/{connection}": _webhook(_APP, _CONNECTION_ID),
        "/api/connections": _read(
            "Every connection",
            "connections:read",
            _object({"data": {"type": "array", "items": _CONNECTION}}),
        ),
        "/api/connections/{connection}": _read(
            "One connection", "connections:read", _CONNECTION, _CONNECTION_ID, **_NOT_FOUND
        ),
        "/api/connections/{connection}/token": _read(
            "The access token it has now",
            "tokens:read",
            _object({"access_token": _TEXT, "expires_at": _TIME}),
            _CONNECTION_ID,
            **_NOT_FOUND,
            s409="There is no token that works; `incident` is being worked on",
        ),
        "/api/connections/{connection}/observations": {
            "post": {
                "summary": "Report how a call of the product went",
                "description": "Scope `observations:write`.",
                "security": _BEARER,
                "parameters": [_CONNECTION_ID],
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": _REPORT}},
                },
                "responses": {
                    "202": _answer("Noted", _object({"status": {"const": "accepted"}})),
                    **_errors(
                        **_KEY_ERRORS,
                        **_NOT_FOUND,
                        s400="Client disconnected while sending the body",
                        s413="Too long",
                        s422="It is no report; `error` says why",
                    ),
                },
            }
        },
        "/api/tokens": {
            "post": {
                "summary": "Hand over tokens: an access token is lent, a pair is given",
                "description": "Scope `tokens:write`. At most 1,000. What is lent is only read "
                "with. A pair is verified first; until its result says `owned`, keep it.",
                "security": _BEARER,
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": _HANDED}},
                },
                "responses": {
                    "200": _answer("What became of each, in order", _TAKEN),
                    **_errors(
                        **_KEY_ERRORS,
                        s400="The body broke off",
                        s413="Too long",
                        s422="One of them is no token; none was taken",
                    ),
                },
            }
        },
        "/api/changes": _read(
            "The change feed",
            "changes:read",
            _object({"data": {"type": "array", "items": _CHANGE}, "next": _OPTIONAL}),
            _parameter("after", "query", "`next` of the page before; none: from the beginning"),
            _parameter("limit", "query", "At most so many", {"type": "integer", "minimum": 1}),
            s400="No cursor of ours",
            s422="No such limit",
        ),
        "/api/explain": _read(
            "The way of a record, delivery, change, incident or message, hop by hop",
            "explain:read",
            _EXPLANATION,
            _parameter("subject", "query", "`Customer · System RECORD-KEY`, a number, or an id"),
            s404="Nothing is known by that name; `error` says what comes near it",
            s422="No subject, or one that is too long",
        ),
        "/api/canary": {
            "post": {
                "summary": "Say that a canary (`type` `canary`) reached the product",
                "description": "Scope `canary:write`. `id` is the `webhook-id` it came with.",
                "security": _BEARER,
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": _object({"id": _TEXT})}},
                },
                "responses": {
                    "200": _answer("Noted; the first echo counts", _CANARY),
                    **_errors(
                        **_KEY_ERRORS,
                        s400="The body broke off",
                        s404="No canary has this id",
                        s413="Too long",
                        s422="There is no id in it",
                    ),
                },
            }
        },
        "/api/canary/{id}": _read(
            "How far a canary came, and when",
            "canary:write",
            _CANARY,
            _parameter("id", "path", "The id that the webhooks route answered"),
            s404="No canary has this id",
        ),
        "/healthz": _state("Alive", "alive"),
        "/readyz": _state(
            "Can store",
            "ready",
            **{"503": _answer("Can't store", _object({"status": {"const": "storage down"}}))},
        ),
    },
}
_BODY = orjson.dumps(DOCUMENT)


async def show(_: Request) -> Response:
    """The document."""
    return Response(_BODY, media_type="application/json")


ROUTES = [Route("/openapi.json", show, methods=["GET"])]
