"""What the OpenAPI document is made of: kinds of routes, shapes of what is sent to them.

The shapes of answers are those of their models.
"""

from typing import Any

from linekeeper.answers import Answer

Json = dict[str, Any]
REF = "#/components/schemas/{model}"

TEXT: Json = {"type": "string"}
OPTIONAL: Json = {"type": ["string", "null"]}
TIME: Json = {"type": ["string", "null"], "format": "date-time"}
ERROR: Json = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string"}},
}


def object_of(required: Json, **optional: Json) -> Json:
    return {
        "type": "object",
        "required": list(required),
        "properties": {**required, **optional},
    }


def answer(description: str, shape: type[Answer] | Json) -> Json:
    schema = shape if isinstance(shape, dict) else {"$ref": REF.format(model=shape.__name__)}
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def errors_of(**descriptions: str) -> Json:
    return {status.removeprefix("s"): answer(text, ERROR) for status, text in descriptions.items()}


KEY_ERRORS = {
    "s401": "The key is missing, unknown or revoked",
    "s403": "The key lacks the scope",
    "s503": "The database can't be used: try again",
}
WEBHOOK_ERRORS = {
    "s400": "The request is not valid HTTP",
    "s401": "Invalid signature",
    "s404": "No app of that name",
    "s408": "Client disconnected while sending the body",
    "s413": "Too long",
    "s415": "Compressed",
    "s503": "Storage unavailable, retry later",
}
BEARER: list[Json] = [{"key": []}]


def parameter(name: str, location: str, description: str, schema: Json = TEXT) -> Json:
    return {
        "name": name,
        "in": location,
        "required": location == "path",
        "description": description,
        "schema": schema if location != "path" else {**schema, "minLength": 1},
    }


CONNECTION_ID = parameter("connection", "path", "Our id, or Makini's key")
APP = parameter("app", "path", "`default` unless named")


def write_route(
    summary: str,
    description: str,
    body: Json,
    answers: Json,
    *parameters: Json,
    **errors: str,
) -> Json:
    of_body = {"s400": "Client disconnected while sending the body", "s413": "Too long"}
    return {
        "post": {
            "summary": summary,
            "description": description,
            "security": BEARER,
            **({"parameters": list(parameters)} if parameters else {}),
            "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
            "responses": {**answers, **errors_of(**KEY_ERRORS, **of_body, **errors)},
        }
    }


def read_route(
    summary: str, scope: str, shape: type[Answer], *parameters: Json, **errors: str
) -> Json:
    return {
        "get": {
            "summary": summary,
            "description": f"Scope `{scope}`.",
            "security": BEARER,
            "parameters": list(parameters),
            "responses": {"200": answer(summary, shape), **errors_of(**KEY_ERRORS, **errors)},
        }
    }


def webhook_route(*parameters: Json) -> Json:
    schema = object_of({"status": {"enum": ["accepted", "duplicate"]}, "id": TEXT})
    return {
        "post": {
            "summary": "Store a webhook of Makini",
            "security": [{"signature": []}],
            "parameters": list(parameters),
            "requestBody": {"required": True, "content": {"application/json": {"schema": {}}}},
            "responses": {"200": answer("It is durable", schema), **errors_of(**WEBHOOK_ERRORS)},
        }
    }


def state_route(summary: str, word: str, **more: Json) -> Json:
    schema = object_of({"status": {"const": word}})
    return {
        "get": {
            "summary": summary,
            "security": [],
            "responses": {"200": answer(summary, schema), **more},
        }
    }


NOT_FOUND = {"s404": "No such connection"}
REPORT = object_of(
    {"status": {"anyOf": [{"const": 0}, {"type": "integer", "minimum": 100, "maximum": 599}]}},
    code={"type": ["string", "integer", "null"]},
    request_id={"type": ["string", "integer", "null"]},
    at=TIME,
)
HANDED = object_of(
    {
        "tokens": {
            "type": "array",
            "maxItems": 1000,
            "items": object_of(
                {"connection": TEXT, "access_token": TEXT},
                refresh_token=OPTIONAL,
                expires_at=TIME,
                expires_in={"type": ["integer", "string", "null"]},
            ),
        }
    }
)
MODE = object_of(
    {},
    mode={"enum": ["observe", "manage", None]},
    notify_customers={"type": ["boolean", "null"]},
    clear={"type": "boolean", "description": "Remove the connection's own rule"},
    dry_run={"type": "boolean", "description": "Only say what would happen"},
    stop_renewing={
        "type": "boolean",
        "description": "Observe it although nobody would then renew its tokens",
    },
)
