"""What an event about a connection says of it. Pure and total: the body is the sender's.

Field names are not public (MAKINI "Webhooks"): what is looked for are words, under the names that
are likely, at the top or in the details.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

from linekeeper.inbox.identify import as_stored

Says = Literal["answered", "login_restored", "sync_failing", "login_lost", "missed", "refused"]
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
_ENTITY = ("entity", "entities", "entity_type", "entityType", "entity_types", "entityTypes")
_MOST_ENTITIES = 100

_LOGIN = (
    r"(re ?auth\w*|auth|authentication|authori[sz]ation|log ?in|sign ?in|credentials?|password)"
)
_FILLER = r"( (is|are|was|were|has|have|had|been|attempt|details|no|longer|now))*"
_LOST = (
    rf"{_LOGIN}{_FILLER} (required|needed|failed|failure|failing|fails|expired|error|invalid|"
    r"incorrect|wrong|rejected|refused|denied|revoked|lost|locked|changed)"
    r"|(invalid|incorrect|wrong|bad|expired|revoked|refuses|rejects|refused|rejected|lost|changed)"
    rf"( (the|platform|stored|user|its|this|system))* {_LOGIN}"
    rf"|(requires?|needs?|must|has to|have to)( (be|to|a|new))* {_LOGIN}"
    r"|(must|has to|have to|needs? to) be re ?(authori[sz]ed|authenticated)"
    r"|not (re ?)?(authori[sz]ed|authenticated) any more"
    r"|unauthori[sz]ed"
)
_RESTORED = (
    r"(re ?)?(authori[sz]ed|authenticated)|logged in|signed in"
    rf"|{_LOGIN} (successful|succeeded|success|completed?|restored|renewed|verified|ok|valid|"
    r"updated|replaced|fixed)"
)
_WORDS: tuple[tuple[Says, str], ...] = (
    ("login_restored", rf"^({_RESTORED})$"),
    ("login_lost", rf"\b({_LOST})\b|^(fail|re ?auth(entication|ori[sz]ation)?)$"),
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
_LOST_CODE = re.compile(rf"(^|.* )({_LOST})")
_IDENTIFIER = re.compile(r"\w[_.]\w")
"""Found in a name such as `USER_LOGIN_HISTORY` or `public.users`: that it is called so says
nothing."""
_BAD_NAME = re.compile(
    r"\b(required|needed|needs|requires|failed|failure|expired|invalid|revoked|lost|changed)\b"
)
_OF_CONNECTION = re.compile(r"^(connection|integration) ")


class Statement(NamedTuple):
    """What an event says of its connection; `says` is None where it says nothing of its health."""

    says: Says | None
    code: str | None = None
    message: str | None = None
    request_id: str | None = None
    synced: bool = False
    """A sync ended well at the time of the event."""
    entities: tuple[str, ...] = ()
    """As the sender calls those that a sync's end was of; none: it was of the whole connection."""


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
        entities=_entities(payload) if kind in ("sync.completed", "sync.failed") else (),
    )


def _says(kind: str, event: str, payload: Any) -> Says | None:
    name = _OF_CONNECTION.sub("", _plain(event))
    match kind:
        case "connection.auth_required":
            return _about_login(name, _read(_texts(payload, (*_STATUS, *_RESULT))))
        case "connection.status_changed":
            return _about_status(name, payload)
        case "sync.completed":
            found = _read(_texts(payload, _RESULT))
            return found if found in ("sync_failing", "login_lost") else "answered"
        case "sync.failed":
            # A login is lost where a code or a sentence says so, not where a table is called so.
            lost = _read(_texts(payload, _RESULT)) == "login_lost" or any(
                map(_tells_of_lost_login, _values(payload, (*_CODE, *_MESSAGE)))
            )
            return "login_lost" if lost else "sync_failing"
        case "system.error":
            # Somebody's trouble, not said whose: a suspicion that the next probe clears up.
            return "missed"
    return None


def _entities(payload: Any) -> tuple[str, ...]:
    """The names of entities under the first name that has some."""
    if not isinstance(payload, dict):
        return ()
    inner = (payload.get(name) for name in _INNER)
    for place in (*(part for part in inner if isinstance(part, dict)), payload):
        for name in _ENTITY:
            value = place.get(name)
            listed = value[:_MOST_ENTITIES] if isinstance(value, list) else [value]
            named = tuple(part.strip() for part in listed if isinstance(part, str) and part.strip())
            if named:
                return named
    return ()


def _about_login(name: str, said: Says | None) -> Says:
    """What an event about a login says: lost, unless its details say that it is good again."""
    good = said == "login_restored" or (said == "answered" and not _BAD_NAME.search(name))
    return "login_restored" if good else "login_lost"


def _about_status(name: str, payload: Any) -> Says | None:
    """`connection.offline` says it in its name, others in their details."""
    said = _read([name])
    if said == "login_restored":
        return said
    return _read(_texts(payload, _STATUS)) or said or _read([name.rpartition(" ")[2]])


def _tells_of_lost_login(value: str) -> bool:
    """Whether a code, or a sentence without the names in it, says that a login is lost."""
    parts: list[list[str]] = [[]]
    names = []
    for word in value[:2_000].split():
        if _IDENTIFIER.search(word):
            names.append(word)
            parts.append([])
        else:
            parts[-1].append(word)
    in_words = _read(_plain(" ".join(part)) for part in parts) == "login_lost"
    return in_words or any(_LOST_CODE.fullmatch(_plain(name)) for name in names)


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
    for place in (*(part for part in inner if isinstance(part, dict)), payload):
        for name in names:
            value = place.get(name)
            if isinstance(value, bool):
                yield str(value).lower()
            elif isinstance(value, int | str) and str(value).strip():
                yield str(value)
