"""Makini as one app sees it: connections, tokens, status, records."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Self
from urllib.parse import quote, urlencode

import httpx
import orjson

from linekeeper.clock import utcnow
from linekeeper.config import AppConfig
from linekeeper.makini.admin import AdminToken
from linekeeper.makini.at_once import ReservedCall
from linekeeper.makini.budget import Budget
from linekeeper.makini.errors import ErrorKind, MakiniError, ReadOnlyApp
from linekeeper.makini.failures import read_json
from linekeeper.makini.http_client import open_client
from linekeeper.makini.models import (
    ConnectionPage,
    ConnectionStatus,
    RecordPage,
    TokenPair,
    parse_client,
    parse_connections,
    parse_platforms,
    parse_record,
    parse_status,
    parse_tokens,
)
from linekeeper.makini.paging import Pages, filter_queries, parse_page
from linekeeper.makini.wire import (
    MakiniAnswer,
    Wire,
    reading,
    refuse_unusable_address,
    refuse_unusable_token,
)

Again = Callable[[MakiniError], Awaitable[str | None]]

_FORM = "application/x-www-form-urlencoded"
_JSON = "application/json"
_NOT_THE_CONNECTIONS_FAULT = frozenset({"invalid_client", "unauthorized_client"})
"""RFC 6749, 5.2: the app's own credentials are wrong, not the customer's login."""


class MakiniClient:
    """Calls one Makini app; use it as `async with MakiniClient(app) as makini`.

    Every method raises MakiniError when there is no usable answer and never retries. `connection`
    names the connection in errors; for Admin API calls it is also the `{id}` of the route (the
    listed field `app.connection_field` names). An api_url that is none raises MakiniError
    (`rejected`) at once. In mode `observe` what would change something at Makini raises
    ReadOnlyApp before any call. A `client` passed in stays the caller's to close.
    """

    def __init__(
        self,
        app: AppConfig,
        *,
        budget: Budget | None = None,
        client: httpx.AsyncClient | None = None,
        clock: Callable[[], datetime] = utcnow,
    ) -> None:
        self.app = app
        refuse_unusable_address(app)
        self._owned = client is None
        self._client = open_client(app.api_url) if client is None else client
        self._wire = Wire(app, self._client, budget, clock)
        self._clock = clock
        self._admin = AdminToken(self._fetch_admin_token, clock)
        self._status_url = self._url("/api/integrations/current")
        self._older_status_url = self._url("/api/integrations/sync/status")
        self._token_url = self._url("/link/token")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections this client opened."""
        if self._owned:
            await self._client.aclose()

    async def reserve(
        self, connection: str | None = None, *, app_token: bool = False
    ) -> ReservedCall:
        """Wait until a call may be made, and keep it: see `linekeeper.makini.at_once`.

        `connection` is that whose token it is made with; `app_token`: it is made with the app's
        own, which is fetched here where it has to be.
        """
        if app_token:
            await self._admin.get()
        return await self._wire.reserve(connection, as_admin=app_token)

    # The app

    async def check(self) -> str:
        """Return the app's name at Makini; proves that its credentials work."""
        answer = await self._as_admin("GET", self._url("/api/system/client"))
        with self._reading(answer, None):
            return parse_client(self._json(answer, None))

    async def platforms(self) -> set[str]:
        """What the systems are called that Makini connects, as many as it gives at once."""
        answer = await self._as_admin("GET", self._url("/api/system/platforms"))
        with self._reading(answer, None):
            return parse_platforms(self._json(answer, None))

    async def list_connections(self) -> AsyncIterator[ConnectionPage]:
        """Yield every connection of the app, page by page.

        An entry with neither key nor id is left out. A list that repeats a page, breaks off or has
        no end raises MakiniError (`malformed`) with its `fault`, after all that came of it. Pages
        can overlap: whether all of the total came is for the caller to compare.
        """
        pages = Pages(self.app.paging, self.app.per_page)
        while (question := pages.question) is not None:
            try:
                answer = await self._as_admin("GET", self._url("/api/system/connections", question))
            except MakiniError as error:
                if not pages.is_end(error.kind):
                    raise
                return
            with self._reading(answer, None):
                page = parse_page(self._json(answer, None))
                if not pages.answered(page):
                    break
                connections = parse_connections(page.records)
            yield ConnectionPage(connections, len(page.records) - len(connections), page.total)
        with self._reading(answer, None):
            pages.finish()

    # Tokens

    async def mint_token(self, connection: str) -> TokenPair:
        """Return a new token for an existing connection, without its customer.

        It may live for minutes only, and other tokens of the connection may die (MAKINI).
        """
        self._must_manage("mint a token")
        url = self._connection_url(connection, "/token")
        answer = await self._as_admin("POST", url, connection=connection)
        return self._tokens(answer, connection, minted=True)

    async def exchange_code(self, code: str, redirect_uri: str) -> TokenPair:
        """Return the tokens for the code a customer's login came back with; a code works once."""
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
        return self._tokens(await self._post_form(form, None, [code]), None)

    async def refresh(self, refresh_token: str, *, connection: str) -> TokenPair:
        """Return a new pair; the old pair is dead from then on, so store it before all else.

        A refused refresh token raises `rejected` or `unauthorized`. After `timeout` or `network`
        the old pair may be dead or alive: only its use shows.
        """
        self._must_manage("refresh a token")
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        pair = self._tokens(await self._post_form(form, connection, [refresh_token]), connection)
        return pair.refreshed_with(refresh_token)

    async def delete_connection(self, connection: str) -> None:
        """Disconnect for good: reconnecting later makes a new connection (Makini's FAQ)."""
        self._must_manage("delete a connection")
        await self._as_admin("DELETE", self._connection_url(connection), connection=connection)

    # One connection, with its own token

    async def status(self, access_token: str, *, connection: str) -> ConnectionStatus:
        """Return what the connection says about itself, perhaps on the older route."""
        word = "sync_status"
        try:
            answer = await self._as_connection(self._status_url, access_token, connection)
        except MakiniError as error:
            if error.kind is not ErrorKind.not_found:
                raise
            word = "status"
            try:
                answer = await self._as_connection(self._older_status_url, access_token, connection)
            except MakiniError as earlier:
                raise (error if earlier.kind is ErrorKind.not_found else earlier) from None
        with self._reading(answer, connection):
            value = self._json(answer, connection)
            return parse_status(value, word, request_id=answer.request_id, latency=answer.latency)

    async def records(
        self,
        access_token: str,
        entity: str,
        *,
        connection: str,
        since: datetime | None = None,
        keys: Sequence[str] | None = None,
        per_page: int | None = None,
        again: Again | None = None,
        reverse: bool = False,
    ) -> AsyncIterator[RecordPage]:
        """Yield the records of an entity such as `eam/assets`, page by page.

        `since` (UTC) asks for those updated then or later, `keys` for these; how is not all
        documented: both are hints: `rejected` means that the source refuses the filter (list
        without it and compare), more may come than was asked for, and a key that is missing proves
        nothing until `record` says so. `not_found`: this system doesn't offer the entity. A listing
        that repeats a page, breaks off or has no end raises `malformed` with its `fault`, after all
        that came; a page over `MAX_BODY_BYTES` with the code `TOO_LARGE`: ask for fewer records in
        `per_page` (default: the app's). `reverse` asks for the last key first: a record that slips
        between two pages in one order doesn't in the other. `again` is awaited with the error of a
        page that could not be read: it returns the token to ask for the same page with, or None to
        raise the error.
        """
        for filters in filter_queries(self.app.since, since, keys, reverse=reverse):
            pages = Pages(self.app.paging, per_page or self.app.per_page)
            while (question := pages.question) is not None:
                url = self._url(f"/api/{quote(entity)}", [*filters, *question])
                try:
                    answer = await self._as_connection(url, access_token, connection)
                    value = self._json(answer, connection)
                except MakiniError as error:
                    if pages.is_end(error.kind):
                        break
                    renewed = await again(error) if again is not None else None
                    if renewed is None:
                        raise
                    access_token = renewed
                    continue
                with self._reading(answer, connection):
                    page = parse_page(value)
                    if not pages.answered(page):
                        break
                yield page
            with self._reading(answer, connection):
                pages.finish()

    async def record(
        self, access_token: str, entity: str, key: str, *, connection: str
    ) -> dict[str, Any] | None:
        """Return one record as Makini sends it, or None if there is none (404, or null)."""
        url = self._url(f"/api/{quote(entity)}/{self._segment(key, connection)}")
        try:
            answer = await self._as_connection(url, access_token, connection)
        except MakiniError as error:
            if error.kind is ErrorKind.not_found:
                return None
            raise
        with self._reading(answer, connection):
            return parse_record(self._json(answer, connection))

    # Underneath

    async def _fetch_admin_token(self) -> TokenPair:
        secret = self.app.client_secret.get_secret_value()
        who = {"client_id": self.app.client_id, "client_secret": secret}
        answer = await self._wire.exchange(
            "POST",
            self._token_url,
            body=orjson.dumps({"grant_type": "client_credentials", **who}),
            content_type=_JSON,
            secrets=[secret],
        )
        return self._tokens(answer, None)

    async def _post_form(
        self, form: dict[str, str], connection: str | None, secrets: list[str]
    ) -> MakiniAnswer:
        secret = self.app.client_secret.get_secret_value()
        form = {**form, "client_id": self.app.client_id, "client_secret": secret}
        try:
            return await self._wire.exchange(
                "POST",
                self._token_url,
                body=urlencode(form).encode("ascii"),
                content_type=_FORM,
                connection=connection,
                secrets=[*secrets, secret],
            )
        except MakiniError as error:
            if error.code in _NOT_THE_CONNECTIONS_FAULT:
                error.connection = None
            raise

    async def _as_admin(
        self, method: str, url: httpx.URL, *, connection: str | None = None
    ) -> MakiniAnswer:
        token = await self._admin.get()
        try:
            return await self._wire.exchange(
                method, url, token=token, connection=connection, as_admin=True
            )
        except MakiniError as error:
            if error.kind is not ErrorKind.unauthorized:
                raise
        token = await self._admin.get(refused=token)
        try:
            return await self._wire.exchange(
                method, url, token=token, connection=connection, as_admin=True
            )
        except MakiniError as error:
            if error.kind is ErrorKind.unauthorized and connection is not None:
                error.kind = ErrorKind.forbidden  # the app's login works: not the connection's
            raise

    async def _as_connection(self, url: httpx.URL, token: str, connection: str) -> MakiniAnswer:
        refuse_unusable_token(self.app, token, connection)
        return await self._wire.exchange("GET", url, token=token, connection=connection)

    def _must_manage(self, action: str) -> None:
        if not self.app.manages:
            raise ReadOnlyApp(self.app.name, action)

    def _url(self, path: str, query: Sequence[tuple[str, str]] = ()) -> httpx.URL:
        try:
            return httpx.URL(f"{self.app.api_url}{path}{'?' if query else ''}{urlencode(query)}")
        except httpx.InvalidURL as error:  # such as a key of 64 KB
            raise MakiniError(ErrorKind.rejected, str(error), app=self.app.name) from error

    def _connection_url(self, connection: str, route: str = "") -> httpx.URL:
        return self._url(f"/api/system/connections/{self._segment(connection, connection)}{route}")

    def _segment(self, key: str, connection: str) -> str:
        """Return a key as one segment of a path, never as one that leads elsewhere."""
        if key in {"", ".", ".."}:
            raise MakiniError(
                ErrorKind.rejected, f"“{key}” is no key", app=self.app.name, connection=connection
            )
        return quote(key, safe="")

    def _json(self, answer: MakiniAnswer, connection: str | None) -> Any:
        return read_json(
            answer.body,
            app=self.app.name,
            connection=connection,
            status=answer.status,
            request_id=answer.request_id,
        )

    def _tokens(
        self, answer: MakiniAnswer, connection: str | None, *, minted: bool = False
    ) -> TokenPair:
        with self._reading(answer, connection):
            return parse_tokens(self._json(answer, connection), now=self._clock(), minted=minted)

    def _reading(
        self, answer: MakiniAnswer, connection: str | None
    ) -> AbstractContextManager[None]:
        return reading(answer, app=self.app.name, connection=connection)
