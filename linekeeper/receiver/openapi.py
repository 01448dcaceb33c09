"""`GET /openapi.json`: the routes programs use, as an OpenAPI 3.1 document (INTERFACE)."""

from collections.abc import Sequence
from functools import cache

import orjson
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from linekeeper import __version__
from linekeeper.answers import Answer
from linekeeper.canary.echo import Canary
from linekeeper.explain.answer import ExplanationAnswer
from linekeeper.receiver.api import ChangesAnswer, ConnectionsAnswer, HandedAnswer, TokenAnswer
from linekeeper.receiver.mode import ModeAnswer
from linekeeper.receiver.openapi_parts import (
    APP,
    CONNECTION_ID,
    HANDED,
    MODE,
    NOT_FOUND,
    REF,
    REPORT,
    TEXT,
    Json,
    answer,
    object_of,
    parameter,
    read_route,
    state_route,
    webhook_route,
    write_route,
)
from linekeeper.views.connections import ConnectionDetail

DOCUMENT: Json = {
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
        "/webhooks/{app}": webhook_route(APP),
        "/webhooks/{app}/{connection}": webhook_route(APP, CONNECTION_ID),
        "/api/connections": read_route(
            "Every connection",
            "connections:read",
            ConnectionsAnswer,
        ),
        "/api/connections/{connection}": read_route(
            "One connection", "connections:read", ConnectionDetail, CONNECTION_ID, **NOT_FOUND
        ),
        "/api/connections/{connection}/token": read_route(
            "The access token it has now",
            "tokens:read",
            TokenAnswer,
            CONNECTION_ID,
            **NOT_FOUND,
            s409="There is no token that works; `incident` is being worked on",
        ),
        "/api/connections/{connection}/observations": write_route(
            "Report how a call of the product went",
            "Scope `observations:write`.",
            REPORT,
            {"202": answer("Noted", object_of({"status": {"const": "accepted"}}))},
            CONNECTION_ID,
            **NOT_FOUND,
            s422="It is not a report; `error` says why",
        ),
        "/api/connections/{connection}/mode": write_route(
            "Set whether it is observed or managed, and whether its customers are notified",
            "Scope `mode:write`. `mode` and the rest are as the connection stands afterwards, in a "
            "dry run as it stands.",
            MODE,
            {"200": answer("What follows from it", ModeAnswer)},
            CONNECTION_ID,
            **NOT_FOUND,
            s409="Linekeeper renews its tokens, and nobody would afterwards; or its app isn't "
            "configured",
            s422="The request is invalid; `error` says why",
        ),
        "/api/tokens": write_route(
            "Hand over tokens: an access token is lent, a pair is given",
            "Scope `tokens:write`. At most 1,000. What is lent is only read with. A pair is "
            "verified first; until its result says `owned`, keep it.",
            HANDED,
            {"200": answer("The result for each, in order", HandedAnswer)},
            s422="One of them is not a token; none was stored",
        ),
        "/api/changes": read_route(
            "The change feed",
            "changes:read",
            ChangesAnswer,
            parameter(
                "after",
                "query",
                "`next` of the page before; without it the feed starts at the beginning",
            ),
            parameter(
                "limit", "query", "The most changes to return", {"type": "integer", "minimum": 1}
            ),
            s400="The cursor is unknown",
            s422="The limit is out of range",
        ),
        "/api/explain": read_route(
            "The way of a record, delivery, change, incident or message, hop by hop",
            "explain:read",
            ExplanationAnswer,
            parameter("subject", "query", "`Customer · System RECORD-KEY`, a number, or an id"),
            s404="Nothing matches; `error` names what comes closest",
            s422="No subject, or one that is too long",
        ),
        "/api/canary": write_route(
            "Say that a canary (`type` `canary`) reached the product",
            "Scope `canary:write`. `id` is the `webhook-id` it came with.",
            object_of({"id": TEXT}),
            {"200": answer("Noted; the first echo counts", Canary)},
            s404="No canary has this id",
            s422="There is no id in it",
        ),
        "/api/canary/{id}": read_route(
            "Which hops a canary has passed, and when",
            "canary:write",
            Canary,
            parameter("id", "path", "The id that the webhooks route answered"),
            s404="No canary has this id",
        ),
        "/healthz": state_route("Alive", "alive"),
        "/readyz": state_route(
            "Can store",
            "ready",
            **{"503": answer("Can't store", object_of({"status": {"const": "storage down"}}))},
        ),
    },
}
ANSWERS: Sequence[type[Answer]] = (
    ConnectionsAnswer,
    ConnectionDetail,
    TokenAnswer,
    ModeAnswer,
    HandedAnswer,
    ChangesAnswer,
    ExplanationAnswer,
    Canary,
)
"""What the routes answer with; the models that these are made of come with them."""


@cache
def _document() -> bytes:
    shapes = models_json_schema([(model, "validation") for model in ANSWERS], ref_template=REF)[1]
    components = DOCUMENT["components"] | {"schemas": shapes["$defs"]}
    return orjson.dumps(DOCUMENT | {"components": components})


async def show(_: Request) -> Response:
    return Response(_document(), media_type="application/json")


ROUTES = [Route("/openapi.json", show, methods=["GET"])]
