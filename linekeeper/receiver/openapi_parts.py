"""What the OpenAPI document is made of: shapes of answers, kinds of routes."""

from typing import Any

Json = dict[str, Any]

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


def answer(description: str, schema: Json) -> Json:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def errors_of(**descriptions: str) -> Json:
    return {status.removeprefix("s"): answer(text, ERROR) for status, text in descriptions.items()}


COUNT = {"type": ["integer", "null"]}
COMPLETENESS = object_of(
    {
        "entity": TEXT,
        "state": {"enum": ["agrees", "differs", "unknown"]},
        "source": COUNT,
        "here": COUNT,
        "compared_at": TIME,
        "agreed_at": TIME,
        "unknown": {
            "type": "array",
            "items": {"enum": ["not_compared", "no_total", "window", "failing"]},
        },
    }
)
CONNECTION = object_of(
    {
        "id": TEXT,
        "app": TEXT,
        "makini_key": TEXT,
        "label": TEXT,
        "name": TEXT,
        "customer": OPTIONAL,
        "customer_id": OPTIONAL,
        "provider": TEXT,
        "hosting": TEXT,
        "tags": {"type": "array"},
        "setup": TEXT,
        "health": TEXT,
        "evidence": OPTIONAL,
        "health_since": TIME,
        "last_checked_at": TIME,
        "last_sync_at": TIME,
        "last_webhook_at": TIME,
        "replaced_by": OPTIONAL,
    },
    incident=OPTIONAL,
    records={"type": "array", "items": COMPLETENESS},
    settings={
        "type": "array",
        "description": "What `workflow-configuration` set for it; empty: as its app",
        "items": object_of(
            {
                "entity": TEXT,
                "cadence_minutes": {"type": ["integer", "null"]},
                "keep_bodies": {"type": ["boolean", "null"]},
                "forward_to": OPTIONAL,
            }
        ),
    },
)
CHANGE = object_of(
    {
        "id": TEXT,
        "connection": TEXT,
        "makini_key": TEXT,
        "entity": TEXT,
        "key": TEXT,
        "op": {"enum": ["inserted", "updated", "deleted", "rekeyed"]},
        "updated_at": TIME,
    },
    old_key={"type": "string", "description": "Of `rekeyed`: the key the record had before"},
)
HOP = object_of(
    {
        "hop": TEXT,
        "state": {"enum": ["done", "missing", "waiting", "not_needed", "unknown"]},
        "at": TIME,
        "text": TEXT,
        "evidence": {"type": "object"},
    }
)
EXPLANATION = object_of(
    {
        "kind": {"enum": ["record", "delivery", "change", "incident", "message"]},
        "subject": TEXT,
        "title": TEXT,
        "cause": TEXT,
        "missing": OPTIONAL,
        "owner": {"enum": ["makini", "customer", "us", "product", "nobody"]},
        "summary": TEXT,
        "next_step": TEXT,
        "hops": {"type": "array", "items": HOP},
        "limits": {"type": "array", "items": TEXT},
        "ids": {"type": "object"},
    }
)
CANARY = object_of(
    {
        "id": TEXT,
        "status": TEXT,
        "received_at": TIME,
        "processed_at": TIME,
        "forward": {"enum": ["none", "pending", "sent", "dead"]},
        "forwarded_at": TIME,
        "forward_error": OPTIONAL,
        "echoed_at": TIME,
    }
)
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


def parameter(name: str, place: str, description: str, schema: Json = TEXT) -> Json:
    return {
        "name": name,
        "in": place,
        "required": place == "path",
        "description": description,
        "schema": schema if place != "path" else {**schema, "minLength": 1},
    }


CONNECTION_ID = parameter("connection", "path", "Our id, or Makini's key")
APP = parameter("app", "path", "`default` unless named")


def read_route(summary: str, scope: str, schema: Json, *parameters: Json, **errors: str) -> Json:
    return {
        "get": {
            "summary": summary,
            "description": f"Scope `{scope}`.",
            "security": BEARER,
            "parameters": list(parameters),
            "responses": {"200": answer(summary, schema), **errors_of(**KEY_ERRORS, **errors)},
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
    {"status": {"type": "integer", "minimum": 0, "maximum": 999}},
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
TAKEN = object_of(
    {
        "results": {
            "type": "array",
            "items": object_of(
                {
                    "connection": TEXT,
                    "custody": {"enum": ["owned", "borrowed", None]},
                    "error": OPTIONAL,
                }
            ),
        }
    }
)
TEXTS: Json = {"type": "array", "items": TEXT}
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
MODE_RESULT = object_of(
    {
        "connection": TEXT,
        "dry_run": {"type": "boolean"},
        "mode": {"enum": ["observe", "manage"]},
        "mode_by": TEXT,
        "notify_customers": {"type": "boolean"},
        "notify_by": TEXT,
        "comes_to": object_of(
            {
                "named": {"type": "integer"},
                "to_manage": TEXTS,
                "to_observe": TEXTS,
                "overruled": TEXTS,
                "renewed": TEXTS,
                "minted": TEXTS,
                "links": TEXTS,
                "people": {"type": "integer", "description": "How many people are notified"},
                "silenced": TEXTS,
                "left": TEXTS,
                "first_end": TIME,
            }
        ),
        "lines": TEXTS,
    }
)
