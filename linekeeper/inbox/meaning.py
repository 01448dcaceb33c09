"""What an event about a connection says of it. Pure and total: the body is the sender's.

Field names are not public (MAKINI "Webhooks"): what is looked for are words, under the names that
are likely, at the top or in the details.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

from linekeeper.inbox.identify import as_stored

Says = Literal["answered", "sync_failing", "login_lost", "missed", "refused"]
"""Values of `linekeeper.health.judge.Outcome`."""

ABOUT_CONNECTIONS = frozenset(
    {
        "sync.completed",
        "sync.failed",
        "connection.auth_required",
        "connection.status_changed",
        "system.error",
    }
)
MAX_SAID = 300
_INNER = ("details", "data", "payload", "body", "connection")
_STATUS = ("to", "status", "new_status", "newStatus", "state", "current_status", "currentStatus")
_RESULT = ("result", "status", "sync_status", "syncStatus", "outcome", "success")
_CODE = ("code", "error_code", "errorCode", "reason")
_MESSAGE = ("message", "error", "error_message", "errorMessage", "description", "reason")
_REQUEST = ("request_id", "requestId")

_WORDS: tuple[tuple[Says, str], ...] = (
    (
        "login_lost",
        r"re ?auth|auth\w* (required|needed|failed|expired|error)|(login|credential)|"
        r"unauthori[sz]ed|^fail$",
    ),
    ("refused", r"^(inactive|suspended|deactivated|disabled|not enough credits|paused)$"),
    (
        "missed",
        r"^(offline|down|unreachable|unavailable|disconnected|lost|timeout|not reachable)$",
    ),
    ("sync_failing", r"^(error|errored|failed|failure|degraded|false)$"),
    (
        "answered",
        r"^(online|up|active|connected|available|restored|reachable|ok|healthy|done|fulldone|"
        r"in ?progress|synchroni[sz]ing|success|succeeded|successful|completed?|finished|true)$",
    ),
)
_EXPRESSIONS = tuple((says, re.compile(pattern)) for says, pattern in _WORDS)


class Statement(NamedTuple):
    """What an event says of its connection; `says` is None where it says nothing of its health."""

    says: Says | None
    code: str | None = None
    message: str | None = None
    request_id: str | None = None
    synced: bool = False
    """A sync ended well at the time of the event."""


def statement(kind: str, event: str | None, payload: Any) -> Statement:
    """What an event of `kind`, called `event` by its sender, says with `payload`."""
    says = _says(kind, event or "", payload)
    request_id = _first(payload, _REQUEST)
    return Statement(
        says=says,
        code=_first(payload, _CODE),
        message=_first(payload, _MESSAGE) or (f"webhook {event}" if event else None),
        request_id=as_stored(request_id) if request_id else None,
        synced=kind == "sync.completed" and says == "answered",
    )


def _says(kind: str, event: str, payload: Any) -> Says | None:
    match kind:
        case "connection.auth_required":
            return "login_lost"
        case "connection.status_changed":
            # `connection.offline` says it in its name, others in their details.
            return _read(_texts(payload, _STATUS)) or _read([_plain(event).rpartition(" ")[2]])
        case "sync.completed":
            found = _read(_texts(payload, _RESULT))
            return found if found in ("sync_failing", "login_lost") else "answered"
        case "sync.failed":
            about_login = _read(_texts(payload, (*_CODE, *_MESSAGE, *_RESULT))) == "login_lost"
            return "login_lost" if about_login else "sync_failing"
        case "system.error":
            # Somebody's trouble, not said whose: a suspicion that the next probe clears up.
            return "missed"
    return None


def _read(texts: Iterable[str]) -> Says | None:
    for text in texts:
        for says, expression in _EXPRESSIONS:
            if expression.search(text):
                return says
    return None


def _texts(payload: Any, names: Iterable[str]) -> Iterator[str]:
    for value in _values(payload, names):
        yield _plain(value)


def _plain(text: str) -> str:
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text[:200])
    return re.sub(r"[\W_]+", " ", text).strip().lower()


def _first(payload: Any, names: Iterable[str]) -> str | None:
    """The first text there is, on one line of at most `MAX_SAID` characters."""
    for value in _values(payload, names):
        line = " ".join("".join(c if c.isprintable() else " " for c in value[:2_000]).split())
        if line:
            return line[:MAX_SAID]
    return None


def _values(payload: Any, names: Iterable[str]) -> Iterator[str]:
    names = tuple(names)
    if not isinstance(payload, dict):
        return
    inner = (payload.get(name) for name in _INNER)
    for place in (*(one for one in inner if isinstance(one, dict)), payload):
        for name in names:
            value = place.get(name)
            if isinstance(value, bool):
                yield str(value).lower()
            elif isinstance(value, int | str) and str(value).strip():
                yield str(value)
