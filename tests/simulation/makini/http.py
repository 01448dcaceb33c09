"""The model Makini's HTTP face: one function from a request to an answer, nothing awaited."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, parse_qsl

from tests.simulation.makini.answers import Answer, Call, as_json, pause_headers, spelled
from tests.simulation.makini.connection import Connection, Record
from tests.simulation.makini.truth import Truth

CLIENT_ID = "simulated-client"
CLIENT_SECRET = "mkcs-7f3a9d"


class Face:
    """Answers Makini's public routes from the truth."""

    def __init__(self, truth: Truth) -> None:
        self.truth = truth
        self.personality = truth.personality
        self.admin: dict[str, datetime] = {}
        self.codes: dict[str, tuple[str, str]] = {}  # code: (connection key, redirect uri)
        self.spent: dict[tuple[str, int], int] = {}
        self.mutilate_list: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] | None = None
        self.spoil: Callable[[str, str, dict[str, str], Answer], Answer] = lambda *given: given[-1]
        """What becomes of a page of a connection's entity, by what was asked."""
        self.lacking: Callable[[str, str], int] = lambda key, entity: 0
        """How many records a listing of an entity lacks, though its total counts them."""
        self.effects: list[tuple[datetime, str, str]] = []  # refresh, mint, exchange, delete
        self.listed: dict[tuple[str, str], datetime] = {}
        """When records of a connection's entity were first listed."""
        self.probed: dict[str, datetime] = {}
        """When the status of a connection was last asked for."""
        self.lists: list[tuple[datetime, frozenset[str]]] = []
        """When the list of connections was given, and whose keys were in it."""

    def answer(self, call: Call) -> Answer:
        """Whatever a call asks for; every call gets an answer."""
        if call.path == "/link/token":
            return self._token(call)
        if call.path.startswith("/api/system/"):
            return self._system(call)
        token = call.headers.get("authorization", "").removeprefix("Bearer ")
        connection = self.truth.owner_of(token, call.now)
        if connection is None:
            return self.error(401, "AUTHENTICATION_FAILED", "Unauthenticated.")
        limited = self._limit(connection.key, call.now)
        if limited:
            return limited
        if call.path == "/api/integrations/current":
            return self._current(call, connection)
        if call.path == "/api/integrations/sync/status":
            return as_json({"status": self._word(connection, call.now)[1]})
        return self._data(call, connection)

    def error(self, status: int, code: str, message: str, **headers: str) -> Answer:
        """An error in this Makini's own shape."""
        number: Any = f"req-{len(self.effects)}-{status}"
        if self.personality.number_ids:
            number = 1000 * len(self.effects) + status
        style = self.personality.error_style
        shapes: dict[str, dict[str, Any]] = {
            "code": {"code": code, "type": "error", "message": message, "request_id": number},
            "nested": {"error": {"code": code}, "message": message, "requestId": number},
            "laravel": {"message": message},
            "adapter": {"status": status, "errors": [message]},
        }
        answer = as_json(shapes[style], status)
        answer.headers.update({"x-request-id": str(number)} | headers)
        return answer

    # --- tokens

    def _token(self, call: Call) -> Answer:
        try:
            kind = call.headers.get("content-type", "")
            given = (
                json.loads(call.body) if "json" in kind
                else dict(parse_qsl(call.body.decode(), strict_parsing=True))
            )  # fmt: skip
        except ValueError:
            return self.error(400, "INVALID_REQUEST", "The body cannot be read.")
        if (given.get("client_id"), given.get("client_secret")) != (CLIENT_ID, CLIENT_SECRET):
            return self.error(401, "AUTHENTICATION_FAILED", "Client authentication failed.")
        grant = given.get("grant_type")
        if grant == "client_credentials":
            token = f"mkad-{self.truth.rng.getrandbits(96):024x}"
            self.truth.secrets.append(token)
            self.admin[token] = call.now + timedelta(hours=1)
            return as_json({"access_token": token, "token_type": "bearer",
                          "expires_in": self._expiry(call.now, self.admin[token])})  # fmt: skip
        if grant == "authorization_code":
            known = self.codes.pop(str(given.get("code")), None)
            if known is None or known[1] != given.get("redirect_uri"):
                return self.error(400, "INVALID_GRANT", "The code is not valid.")
            connection = self.truth.connections[known[0]]
            target, pair = self.truth.log_in(connection, call.now)
            self.effects.append((call.now, "exchange", target.key))
        elif grant == "refresh_token":
            owner = self.truth.refreshable(str(given.get("refresh_token")), call.now)
            if owner is None:
                return self.error(401, "AUTHENTICATION_FAILED", "The refresh token is invalid.")
            pair = self.truth.issue(owner, call.now, source="refresh")
            self.effects.append((call.now, "refresh", owner.key))
        else:
            return self.error(400, "UNSUPPORTED_GRANT_TYPE", "The grant type is not supported.")
        return as_json({
            "access_token": pair.access, "refresh_token": pair.refresh, "token_type": "Bearer",
            "expires_in": self._expiry(call.now, pair.access_until),
        })  # fmt: skip

    def _expiry(self, now: datetime, until: datetime) -> Any:
        if self.personality.expires_in == "relative":
            return int((until - now).total_seconds())
        absolute = int(until.timestamp())
        return str(absolute) if self.personality.expires_in == "text" else absolute

    # --- the admin API

    def _system(self, call: Call) -> Answer:
        token = call.headers.get("authorization", "").removeprefix("Bearer ")
        if token not in self.admin or call.now >= self.admin[token]:
            return self.error(401, "AUTHENTICATION_FAILED", "Unauthenticated.")
        limited = self._limit("system", call.now)
        if limited:
            return limited
        parts = call.path.removeprefix("/api/system/").split("/")
        if parts == ["connections"] and call.method == "GET":
            shown = (*self.truth.living(), *self.truth.pending)
            listed = [self._listed(each, call.now) for each in shown]
            if self.mutilate_list is not None:
                listed = self.mutilate_list(listed)
            self.lists.append((call.now, frozenset(each["key"] for each in listed)))
            return self._page(call, listed)
        if parts[0] == "connections" and len(parts) >= 2:
            connection = self.truth.connections.get(parts[1])
            if connection is None or connection.deleted:
                return self.error(404, "NOT_FOUND", "No such connection.")
            if parts[2:] == [] and call.method == "DELETE":
                self.effects.append((call.now, "delete", connection.key))
                self.truth.delete(connection, call.now)
                return Answer(204)
            if parts[2:] == ["token"] and call.method == "POST":
                return self._mint(call, connection)
            if parts[2:] == ["metadata"] and call.method == "GET":
                return as_json({"data": self._metadata(connection) or []})
        if parts == ["client"]:
            return as_json({"data": {"id": CLIENT_ID, "name": "Simulated", "redirects": []}})
        if parts == ["platforms"]:
            slugs = sorted({each.provider for each in self.truth.living()})
            return as_json({"data": [{"slug": slug, "name": slug} for slug in slugs]})
        return self.error(404, "NOT_FOUND", "No such route.")

    def _mint(self, call: Call, connection: Connection) -> Answer:
        if self.personality.mint == "refused":
            return self.error(403, "FORBIDDEN", "Not allowed for this account.")
        pair = self.truth.issue(connection, call.now, source="mint")
        self.effects.append((call.now, "mint", connection.key))
        more = {"refresh_token": pair.refresh} if pair.refresh else {}
        if self.personality.mint == "short":
            return as_json({"token": pair.access, "expires_in": 300, **more})
        until = self._expiry(call.now, pair.access_until)
        return as_json({"data": {"access_token": pair.access, "expires_in": until, **more}})

    def _listed(self, connection: Connection, now: datetime) -> dict[str, Any]:
        lifecycle, sync = self._word(connection, now)
        if sync == "error":
            lifecycle = self.personality.offline_as
        lifecycle = spelled(lifecycle, self.personality.lifecycle_case)
        made = self.truth.stamp(connection.created_at)
        return {
            "key": connection.key, "name": connection.name, "email": connection.email,
            "status": lifecycle, "integration_name": connection.provider, "redirect": None,
            "scopes": [], "tags": [], "user_metadata": self._metadata(connection),
            "client_id": CLIENT_ID, "created_at": made, "updated_at": made,
            "connected_at": None if connection in self.truth.pending else made,
        }  # fmt: skip

    def _metadata(self, connection: Connection) -> Any:
        """What the app gave a connection, in this Makini's shape."""
        given = connection.metadata
        match self.personality.metadata_as:
            case "text":
                return json.dumps(given)
            case "words":
                return " ".join(given.values()) if given else ""
            case "array":
                return [{"key": name, "value": value} for name, value in (given or {}).items()]
        return given

    # --- one connection, with its own token

    def _word(self, connection: Connection, now: datetime) -> tuple[str, str]:
        return connection.word(now)

    def _current(self, call: Call, connection: Connection) -> Answer:
        if call.method == "DELETE":
            self.effects.append((call.now, "delete", connection.key))
            self.truth.delete(connection, call.now)
            return Answer(204)
        self.probed[connection.key] = call.now
        _, sync = self._word(connection, call.now)
        at = self.truth.stamp(call.now - timedelta(minutes=5) if connection.login_ok
                              and connection.online else connection.words[-1][0])  # fmt: skip
        return as_json({"data": {
            "id": connection.key, "company_name": connection.company, "email": connection.email,
            "provider": connection.provider, "updated_at": at, "sync_status": sync,
            "sync_updated_at": at,
        }})  # fmt: skip

    def _data(self, call: Call, connection: Connection) -> Answer:
        parts = call.path.removeprefix("/api/").split("/")
        entity, key = "/".join(parts[:2]), "/".join(parts[2:])
        if call.method != "GET" or entity not in connection.records:
            return self.error(404, "NOT_FOUND", "This platform does not offer it.")
        if not connection.login_ok:
            return self.error(401, "AUTHENTICATION_FAILED", "Platform credentials are invalid.")
        if not connection.active:
            return self.error(403, "FORBIDDEN", "The connection is inactive.")
        if not connection.online and self.personality.offline_reads == "503":
            return self.error(503, "SERVICE_UNAVAILABLE", "The platform does not answer.")
        if not connection.online and self.personality.offline_reads == "errors":
            nothing = None if key else []
            return as_json({"data": nothing, "errors": ["The platform does not answer."]})
        records = connection.listed(entity, call.now)
        if key:
            record = records.get(key)
            if record is None:
                return self.error(404, "NOT_FOUND", "No such record.")
            return as_json({"data": record.data})
        self.listed.setdefault((connection.key, entity), call.now)
        lacking = self.lacking(connection.key, entity)
        page = self._list_records(call, list(records.values()), lacking)
        return self.spoil(connection.key, entity, call.query, page)

    def _list_records(self, call: Call, records: list[Record], lacking: int) -> Answer:
        window = self.personality.window
        if window is not None:
            edge = call.now - timedelta(seconds=window)
            records = [record for record in records if record.updated_at >= edge]
        asked = {"filter": call.query.get("filter[updatedAt:gteq]"),
                 "modified_after": call.query.get("modified_after")}  # fmt: skip
        for style, since in asked.items():
            if since is None:
                continue
            if self.personality.since != style or any("updatedAt" not in r.data for r in records):
                return self.error(400, "INVALID_FILTER", f"{style} is not supported.")
            edge = datetime.fromisoformat(since.replace("Z", "+00:00"))
            records = [
                record for record in records
                if datetime.fromisoformat(record.data["updatedAt"].replace("Z", "+00:00")) >= edge
            ]  # fmt: skip
        records.sort(key=lambda record: (record.data.get("updatedAt", ""), record.key))
        if call.query.get("sort[updatedAt]") == "1":
            records.reverse()
        shown = sorted(records, key=lambda record: record.number)[lacking:] if lacking else records
        kept = {record.key for record in shown}
        rows = [record.data for record in records if record.key in kept]
        return self._page(call, rows, total=len(records))

    def _page(self, call: Call, rows: list[dict[str, Any]], total: int | None = None) -> Answer:
        asked = call.query.get("per_page") or call.query.get("pageSize") or "25"
        size = max(1, min(int(asked) if asked.isdigit() else 25, self.personality.page_cap))
        if self.personality.paging == "cursor":
            if self.personality.empty_first and "cursor" not in call.query:
                return as_json({"data": [], "next_cursor": "0", "meta": {"per_page": size}})
            start = int(call.query.get("cursor") or 0)
            rest = rows[start : start + size]
            following = str(start + size) if start + size < len(rows) else None
            return as_json({"data": rest, "next_cursor": following, "meta": {"per_page": size}})
        page = max(1, int(call.query.get("page") or 1))
        last = max(1, -(-len(rows) // size))
        if not self.personality.says_pages:
            return self._page_alone(page, last, rows, size, is_capped=size < int(asked))
        shown = rows[(page - 1) * size : page * size]
        base = "https://elsewhere.invalid" + call.path  # links are not to be followed
        return as_json({
            "data": shown,
            "links": {"first": f"{base}?page=1", "last": f"{base}?page={last}", "prev": None,
                      "next": f"{base}?page={page + 1}" if page < last else None},
            "meta": {"current_page": page, "from": (page - 1) * size + 1 if shown else None,
                     "last_page": last, "path": base, "per_page": size,
                     "to": (page - 1) * size + len(shown) if shown else None,
                     "total": len(rows) if total is None else total},
        })  # fmt: skip

    def _page_alone(
        self, page: int, last: int, rows: list[dict[str, Any]], size: int, *, is_capped: bool
    ) -> Answer:
        """A page that doesn't say how many there are.

        Whoever gives fewer than were asked for may answer a page beyond the end as it likes.
        """
        if page > last and is_capped and self.personality.beyond_end == "refused":
            return self.error(404, "NOT_FOUND", "No such page.")
        if page > last and is_capped and self.personality.beyond_end == "again":
            page = last
        return as_json({"data": rows[(page - 1) * size : page * size], "meta": {"per_page": size}})

    def _limit(self, whose: str, now: datetime) -> Answer | None:
        minute = (whose, int(now.timestamp() // 60))
        self.spent[minute] = self.spent.get(minute, 0) + 1
        if self.spent[minute] <= self.personality.per_minute:
            return None
        asked = pause_headers(self.personality.retry_after, self.personality.retry_after_as, now)
        return self.error(429, "RATE_LIMIT_EXCEEDED", "Too many requests.", **asked)

    # --- the customer's browser

    def authorize(self, query: str, connection_key: str) -> tuple[str, str]:
        """The customer logs in at Makini Link: the code and the redirect with `state`."""
        asked = {name: values[-1] for name, values in parse_qs(query).items()}
        code = f"mkco-{self.truth.rng.getrandbits(96):024x}"
        self.truth.secrets.append(code)
        self.codes[code] = (connection_key, asked["redirect_uri"])
        return code, asked.get("state", "")
