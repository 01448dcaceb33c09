"""Routes below `/api/connections/{connection}`, whose key may be anything.

A key of Makini is an opaque string, so it comes percent-encoded, and an encoded slash belongs to
it: the path is split as it was sent, and its parts are decoded then, as those of a webhook are.
"""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote

from starlette.routing import Match, Route

from linekeeper.receiver.protocol import Scope

_BEFORE = ["", "api", "connections"]


class ConnectionRoute(Route):
    """`/api/connections/{connection}`, with `after` behind it, such as `/token`."""

    def __init__(self, after: str, endpoint: Callable[..., Any], *, method: str) -> None:
        super().__init__(f"/api/connections/{{connection}}{after}", endpoint, methods=[method])

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether a request is for this route; its `connection` is the key itself."""
        if scope["type"] != "http":
            return Match.NONE, {}
        parts = [unquote(part) for part in scope["raw_path"].decode("latin-1").split("/")]
        if parts[:3] != _BEFORE or len(parts) < 4 or not parts[3]:
            return Match.NONE, {}
        path = "/".join([*_BEFORE, quote(parts[3], safe=""), *parts[4:]])
        match, child_scope = super().matches({**scope, "path": path})
        if match is not Match.NONE:
            child_scope["path_params"] = {**child_scope["path_params"], "connection": parts[3]}
        return match, child_scope
