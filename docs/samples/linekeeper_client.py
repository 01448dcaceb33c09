"""A small client of Linekeeper for your product. Copy it; it needs only httpx."""

import math
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self
from urllib.parse import quote

import httpx

MARGIN_SECONDS = 60
"""A kept token is not used this close to its end."""
KEPT_SECONDS = 300
"""A token is asked for again after this long, so that a new login is noticed."""
DOWN_SECONDS = 15
"""So long a Linekeeper that did not answer is not asked again: no call of yours waits twice."""


class LoginLost(Exception):
    """The customer has to log in again; `incident` is Linekeeper's, if there is one yet."""

    def __init__(self, reason: str, incident: str | None) -> None:
        super().__init__(reason)
        self.incident = incident


@dataclass(slots=True)
class _Kept:
    token: str = field(repr=False)
    until: float
    """When it is asked for again."""
    ends: float
    """When it is of no use any more."""


class Linekeeper:
    """Use as `with Linekeeper(url, key) as linekeeper`. Errors of httpx pass through."""

    def __init__(self, url: str, key: str, *, timeout: float = 10) -> None:
        self._http = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=timeout
        )
        self._kept: dict[str, _Kept] = {}
        self._down_until = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def connections(self) -> list[dict[str, Any]]:
        """Every connection with its setup and health."""
        answer = self._http.get("/api/connections").raise_for_status()
        found: list[dict[str, Any]] = answer.json()["data"]
        return found

    def changes(self, after: str | None = None) -> tuple[list[dict[str, Any]], str]:
        """What changed after the cursor `after`, and the cursor to go on with.

        One `rekeyed` says that your record `old_key` is called `key` from now on, in `connection`.
        """
        asked = {"after": after} if after else {}
        answer = self._http.get("/api/changes", params=asked).raise_for_status().json()
        return answer["data"], str(answer["next"])

    def token(self, connection: str) -> str:
        """The access token that works now, or the last one while Linekeeper is down.

        What Linekeeper can't answer (5xx, 429, no answer) ends no token: it is good until its end.
        Raises `LoginLost`.
        """
        kept, now = self._kept.get(connection), time.time()
        if kept is not None and now < (kept.ends if now < self._down_until else kept.until):
            return kept.token
        try:
            return self._ask(connection)
        except httpx.HTTPError as error:
            status = error.response.status_code if isinstance(error, httpx.HTTPStatusError) else 503
            if status != 429 and status < 500:
                raise  # 401, 403, 404: the key or the name is wrong
            self._down_until = time.time() + DOWN_SECONDS
            if kept is None or time.time() >= kept.ends:
                raise
            return kept.token

    def _ask(self, connection: str) -> str:
        answer = self._http.get(f"/api/connections/{quote(connection, safe='')}/token")
        if answer.status_code == 409:
            answered = answer.json()
            self._kept.pop(connection, None)
            raise LoginLost(answered.get("error", "the login is lost"), answered.get("incident"))
        given = answer.raise_for_status().json()
        until, ends = time.time() + KEPT_SECONDS, math.inf
        if given["expires_at"]:
            ends = datetime.fromisoformat(given["expires_at"]).timestamp()
            until = min(until, ends - MARGIN_SECONDS)
        self._kept[connection] = _Kept(given["access_token"], until, ends)
        return str(given["access_token"])

    def call_failed(self, connection: str, answer: httpx.Response | None) -> None:
        """Tell of a call to Makini that failed; None for one that got no answer.

        A token that Makini refused is not used again. While Linekeeper is down it isn't told: its
        own probes find out.
        """
        if answer is not None and answer.status_code == 401:
            self._kept.pop(connection, None)
        status = answer.status_code if answer is not None else 0
        request_id = answer.headers.get("x-request-id") if answer is not None else None
        report = {"status": status, "request_id": request_id}
        path = f"/api/connections/{quote(connection, safe='')}/observations"
        with suppress(httpx.TransportError):
            self._http.post(path, json=report)
