"""A small client of Linekeeper for your product. Copy it; it needs only httpx."""

import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self
from urllib.parse import quote

import httpx

MARGIN_SECONDS = 60
"""A kept token is not used this close to its end."""
KEPT_SECONDS = 300
"""A token is asked for again after this long, so that a new login is noticed."""


class LoginLost(Exception):
    """The customer has to log in again; `incident` is Linekeeper's, if there is one yet."""

    def __init__(self, reason: str, incident: str | None) -> None:
        super().__init__(reason)
        self.incident = incident


@dataclass(slots=True)
class _Kept:
    token: str = field(repr=False)
    until: float


class Linekeeper:
    """Use as `with Linekeeper(url, key) as linekeeper`. Errors of httpx pass through."""

    def __init__(self, url: str, key: str, *, timeout: float = 30) -> None:
        self._http = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=timeout
        )
        self._kept: dict[str, _Kept] = {}

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
        """The access token that works now. Raises `LoginLost`."""
        kept = self._kept.get(connection)
        if kept is not None and time.time() < kept.until:
            return kept.token
        answer = self._http.get(f"/api/connections/{quote(connection, safe='')}/token")
        if answer.status_code == 409:
            told = answer.json()
            raise LoginLost(told.get("error", "the login is lost"), told.get("incident"))
        given = answer.raise_for_status().json()
        until = time.time() + KEPT_SECONDS
        if given["expires_at"]:
            ends = datetime.fromisoformat(given["expires_at"]).timestamp()
            until = min(until, ends - MARGIN_SECONDS)
        self._kept[connection] = _Kept(given["access_token"], until)
        return str(given["access_token"])

    def call_failed(self, connection: str, answer: httpx.Response | None) -> None:
        """Tell of a call to Makini that failed; None for one that got no answer."""
        self._kept.pop(connection, None)
        status = answer.status_code if answer is not None else 0
        request_id = answer.headers.get("x-request-id") if answer is not None else None
        report = {"status": status, "request_id": request_id}
        path = f"/api/connections/{quote(connection, safe='')}/observations"
        self._http.post(path, json=report).raise_for_status()
