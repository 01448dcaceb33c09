"""What can go wrong with Makini, as one exception that says what to do next.

Evidence has a scope (DESIGN "True before green"): what one entity answers says nothing of the login
nor of the other entities, and what one connection answers nothing of the app. What the error alone
can't tell, a status call of the connection does (`linekeeper.health.scope`).
"""

from enum import StrEnum
from typing import Any


class ErrorKind(StrEnum):
    """Why a call to Makini gave no usable answer."""

    unauthorized = "unauthorized"
    forbidden = "forbidden"
    not_found = "not_found"
    rejected = "rejected"
    rate_limited = "rate_limited"
    unavailable = "unavailable"
    timeout = "timeout"
    network = "network"
    malformed = "malformed"
    circuit_open = "circuit_open"
    taken_over = "taken_over"
    """Not of Makini: another process of Linekeeper holds the lease now."""


NOT_ASKED = frozenset({ErrorKind.rate_limited, ErrorKind.circuit_open, ErrorKind.taken_over})
"""Makini was not asked, or did not say: for as many calls as there were, or because of us. It is
evidence of nothing else."""
_PASSING = NOT_ASKED | {ErrorKind.unavailable, ErrorKind.timeout, ErrorKind.network}

ENDS_LOOP = frozenset({ErrorKind.rejected, ErrorKind.not_found})
"""After the first page these are no answer to the question but the end of this loop: the source
lets go of its cursors when something changes, or after a while, and asks to begin again."""


class ListingFault(StrEnum):
    """Why a listing ended before the end that its source speaks of."""

    repeated_page = "repeated_page"
    repeated_cursor = "repeated_cursor"
    empty_page = "empty_page"
    refused_page = "refused_page"
    unanswered_page = "unanswered_page"
    endless = "endless"


_WHAT = {
    ErrorKind.unauthorized: "Makini refused the login",
    ErrorKind.forbidden: "Makini does not allow this",
    ErrorKind.not_found: "Makini does not know this",
    ErrorKind.rejected: "Makini rejected the request",
    ErrorKind.rate_limited: "Makini's call limit is reached",
    ErrorKind.unavailable: "Makini is not available",
    ErrorKind.timeout: "Makini did not answer in time",
    ErrorKind.network: "Makini could not be reached",
    ErrorKind.malformed: "Makini's answer could not be read",
    ErrorKind.circuit_open: "Calls to Makini are paused after repeated failures",
    ErrorKind.taken_over: "Linekeeper's own turn ended before it was done",
}

_APP_ADVICE = {
    ErrorKind.unauthorized: "Check client_id and client_secret of app {app}",
    ErrorKind.forbidden: "Check what app {app} may do in Makini's dashboard",
    ErrorKind.not_found: "Check api_url of app {app}",
    ErrorKind.malformed: "Check api_url of app {app}",
    ErrorKind.rejected: "Check the settings this call is made from; repeating it will not help",
    ErrorKind.rate_limited: "Try again in a minute, or lower per_minute",
    ErrorKind.network: "Check api_url of app {app} and the network, then try again",
    ErrorKind.taken_over: "Try again in a few seconds; what runs by itself does so",
}
NO_TOKEN = "NO_TOKEN"  # noqa: S105 - no password
"""Our code for a connection without a token, where none may be minted."""
_CONNECTION_ADVICE = {
    ErrorKind.unauthorized: "Renew its token; if that fails too, the customer has to log in again",
    ErrorKind.forbidden: "Check what app {app} and this connection may do in Makini's dashboard",
    ErrorKind.not_found: "Check that the connection still exists and its system offers this",
}


class MakiniError(Exception):
    """A call to Makini failed.

    `str()` is one plain line: what happened, to which app and connection, Makini's code and
    request id (its support asks for both), and what to do. It holds no secret. `retryable` says
    whether the same call may succeed later; `retry_after` is in seconds from now, if Makini said
    so. The client itself never retries (DESIGN "Retries in one layer"). `fault` says that what came
    of a listing before is true, but not all there is.
    """

    def __init__(
        self,
        kind: ErrorKind,
        message: str,
        *,
        app: str,
        connection: str | None = None,
        code: str = "",
        request_id: str | None = None,
        status: int | None = None,
        retryable: bool | None = None,
        retry_after: float | None = None,
        fault: ListingFault | None = None,
    ) -> None:
        super().__init__(message)
        self.fault = fault
        self.kind = kind
        self.message = message
        self.app = app
        self.connection = connection
        self.code = code
        self.request_id = request_id
        self.status = status
        self.retryable = kind in _PASSING if retryable is None else retryable
        self.retry_after = retry_after

    @property
    def reference(self) -> str:
        """Makini's code and request id in brackets, for its support; empty if it gave neither."""
        parts = [f"code {self.code}"] if self.code else []
        parts += [f"request id {self.request_id}"] if self.request_id else []
        return f" ({', '.join(parts)})" if parts else ""

    @property
    def brief(self) -> str:
        """What happened, without app, connection and advice: for a conversation."""
        message = f": {self.message.rstrip('.')}" if self.message else ""
        return f"{self._what}{message}{self.reference}"

    def brief_of(self, entity: str) -> str:
        """The same of a call that says something of `entity` alone: its 401 is of no login."""
        if self.kind is not ErrorKind.unauthorized:
            return self.brief
        message = f": {self.message.rstrip('.')}" if self.message else ""
        return f"Makini refuses {entity} to this connection (401){message}{self.reference}"

    @property
    def _what(self) -> str:
        if self.fault is not None:
            return "What Makini lists is not the whole"
        if self.connection is not None and self.kind is ErrorKind.unavailable:
            return "The system, or Makini's way to it, does not answer"
        return _WHAT[self.kind]

    def __str__(self) -> str:
        return f"{self.said}. {self.advice}."

    @property
    def said(self) -> str:
        """What happened, with everything by which Makini's support finds the call."""
        status = f" ({self.status})" if self.status is not None else ""
        message = f": {self.message.rstrip('.')}" if self.message else ""
        where = [f"app {self.app}"]
        if self.connection is not None:
            where.append(f"connection {self.connection}")
        if self.code:
            where.append(f"code {self.code}")
        if self.request_id:
            where.append(f"request id {self.request_id}")
        return f"{self._what}{status}{message} [{', '.join(where)}]"

    @property
    def advice(self) -> str:
        """What to do."""
        if self.kind is ErrorKind.rate_limited and self.retry_after is not None:
            return f"Try again in {self.retry_after:.0f} s, or lower per_minute"
        if self.kind is ErrorKind.circuit_open:
            wait = 0 if self.retry_after is None else max(self.retry_after, 0)
            return f"A sweep in {wait:.0f} s or later tries again; `linekeeper doctor` does now"
        of_connection = self.connection is not None and self.kind in _CONNECTION_ADVICE
        advice = _CONNECTION_ADVICE if of_connection else _APP_ADVICE
        return advice.get(self.kind, "Try again later").format(app=self.app)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.kind, self.message, vars(self).copy())


def _rebuild(kind: ErrorKind, message: str, attributes: dict[str, Any]) -> MakiniError:
    error = MakiniError(kind, message, app=attributes["app"])
    vars(error).update(attributes)
    return error


class ReadOnlyApp(Exception):
    """Refused here, before any call: the mode is `observe` (DESIGN "Do no harm").

    `label` names the connection where it is about one.
    """

    def __init__(self, app: str, action: str, label: str = "") -> None:
        super().__init__(app, action, label)
        self.app = app
        self.action = action
        self.label = label

    def __str__(self) -> str:
        if self.label:
            return (
                f"{self.label} is in observe mode, so Linekeeper will not {self.action}. Set its "
                f"mode to manage (`linekeeper mode set`), or that of its app {self.app}."
            )
        return (
            f"App {self.app} is in observe mode, so Linekeeper will not {self.action}. "
            "Switch its mode to manage to allow it."
        )


class ErrorScope(StrEnum):
    """What a failure is evidence about."""

    entity = "entity"
    connection = "connection"
    app = "app"


_ABOUT_THE_CALL = frozenset(
    {
        ErrorKind.unauthorized,
        ErrorKind.forbidden,
        ErrorKind.not_found,
        ErrorKind.rejected,
        ErrorKind.unavailable,
        ErrorKind.timeout,
        ErrorKind.network,
        ErrorKind.malformed,
    }
)
"""The statuses that, of a data call, may be about its entity alone."""


def error_scope(error: MakiniError) -> ErrorScope:
    """The widest thing that the `error` of a call for one entity's records may be evidence about.

    An error that names no connection is the app's; a call limit, an open circuit and a missing
    token are the connection's.
    """
    if error.connection is None:
        return ErrorScope.app
    if error.kind in _ABOUT_THE_CALL and error.code != NO_TOKEN:
        return ErrorScope.entity
    return ErrorScope.connection
