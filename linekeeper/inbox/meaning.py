"""What an event means: by its name one of our kinds, and by its body what it says of a connection.

Pure and total, for both are the sender's. One literal name is public, `assets.updated` (Makini
docs); the others are inferred, so names are read as words, whatever separates them, and an
operator's own patterns are asked first. Field names are not public either (MAKINI "Webhooks"):
what is looked for in a body are words, under the names that are likely, at the top or in the
details.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple

from linekeeper.text import as_stored

RECORD_KINDS = frozenset({"record.inserted", "record.updated", "record.deleted"})
UNKNOWN = "unknown"
CANARY = "canary"
"""Our own synthetic event: it asks for nothing and is about nobody."""
CANARY_EVENT = "linekeeper.canary"
MAX_NAME = 200
_REMEMBERED = 1024

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_OPERATIONS = {
    **dict.fromkeys(("inserted", "created", "added"), "record.inserted"),
    **dict.fromkeys(("updated", "changed", "modified"), "record.updated"),
    **dict.fromkeys(("deleted", "removed"), "record.deleted"),
}
_AUTH = r"(re )?(auth|authentication|authori[sz]ation|reauth(entication|ori[sz]ation)?)"
_GOOD_LOGIN = (
    r"(authori[sz]ed|authenticated|reauthori[sz]ed|reauthenticated|logged in"
    r"|(auth|authentication|authori[sz]ation|reauth(entication|ori[sz]ation)?|login)"
    r" (successful|succeeded|success|completed?|restored|renewed|ok)"
    r"|credentials? (updated|renewed|restored|replaced|fixed|valid))"
)
_NAMES = (
    (
        "sync.completed",
        r"(connection |integration |data |initial |full )?(sync|synchroni[sz]ation) "
        r"(completed?|completion|succeeded|success|successful|finished|done)",
    ),
    (
        "sync.failed",
        r"(connection |integration |data |initial |full )?(sync|synchroni[sz]ation) "
        r"(failed|failure|fail|error|errored)",
    ),
    (
        "connection.auth_required",
        rf"(connection |integration )?(needs |requires ){_AUTH}"
        rf"|(connection |integration )?{_AUTH} (is )?(required|needed|failed|failure|expired)"
        r"|(connection |integration )reauth(entication|ori[sz]ation)?"
        r"|(connection |integration )?credentials? (expired|invalid|revoked|changed)"
        r"|(connection |integration )?login required",
    ),
    (
        "connection.status_changed",
        rf"(connection |integration )?(re )?{_GOOD_LOGIN}"
        r"|(connection|integration) (status|statuses)( changed?| updated?| inserted)?"
        r"|(connection|integration) (online|offline|up|down|connected|disconnected|restored|lost)",
    ),
    ("system.error", r"(system|platform|makini) (error|failure|down|outage)"),
)
_BUILT_IN = tuple((kind, re.compile(pattern)) for kind, pattern in _NAMES)
ABOUT_CONNECTIONS = frozenset(kind for kind, _ in _NAMES)


class Meaning(NamedTuple):
    """A kind of ours, and the entity (as in `MAKINI_ENTITIES`) where it is about records."""

    kind: str
    entity: str | None = None


def rank_of(kind: str) -> int:
    """0 for what is about a connection, and for a canary: applied before what is about records."""
    return 1 if kind in RECORD_KINDS or kind == UNKNOWN else 0


class EventNames:
    """Reads event names as one app spells them.

    `patterns` (`fnmatch`, any case → kind) win over the built-in table. An entity that isn't
    among `entities` is given without a path, as `materials`.
    """

    __slots__ = ("_entities", "_known", "_patterns")

    def __init__(self, entities: Sequence[str], patterns: Mapping[str, str]) -> None:
        self._patterns = tuple((pattern.lower(), kind) for pattern, kind in patterns.items())
        self._entities: dict[tuple[str, ...], str] = {}
        for entity in entities:
            for name in (entity, entity.rpartition("/")[2]):
                self._entities.setdefault(_singular(words(name)), entity)
        self._known: dict[str, Meaning] = {}

    def meaning(self, name: str | None) -> Meaning:
        """What `name` means; `unknown` for what nothing matches."""
        if not name or len(name) > MAX_NAME:
            return Meaning(UNKNOWN)
        known = self._known.get(name)
        if known is None:
            known = self._read(name)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[name] = known
        return known

    def entity(self, name: str) -> str | None:
        """The entity called `name`, as in `MAKINI_ENTITIES`; without a path if it isn't there."""
        return self._entity(words(name[:MAX_NAME]))

    def _read(self, name: str) -> Meaning:
        if name == CANARY_EVENT:
            return Meaning(CANARY)
        parts = words(name)
        lowered = name.lower()
        for pattern, kind in self._patterns:
            if fnmatchcase(lowered, pattern):
                return Meaning(kind, self._entity(parts[:-1]) if kind in RECORD_KINDS else None)
        text = " ".join(parts)
        for kind, expression in _BUILT_IN:
            if expression.fullmatch(text):
                return Meaning(kind)
        operation = _OPERATIONS.get(parts[-1]) if len(parts) > 1 else None
        if operation is None:
            return Meaning(UNKNOWN)
        return Meaning(operation, self._entity(parts[:-1]))

    def _entity(self, parts: tuple[str, ...]) -> str | None:
        singular = _singular(parts)
        for start in range(len(singular)):
            entity = self._entities.get(singular[start:])
            if entity is not None:
                return entity
        return "-".join(parts) or None


def words(name: str) -> tuple[str, ...]:
    """The words of a name in hyphen, underscore, dot or camel case, in lower case."""
    return tuple(word.lower() for word in _WORDS.findall(name))


def _singular(parts: tuple[str, ...]) -> tuple[str, ...]:
    """The same words with the plural of the last one taken off, for comparing only."""
    if not parts:
        return parts
    last = parts[-1]
    if last.endswith("ies"):
        last = last[:-3] + "y"
    elif last.endswith("s"):
        last = last[:-1]
    return (*parts[:-1], last)


Says = Literal["answered", "login_restored", "sync_failing", "login_lost", "missed", "refused"]
"""Values of `linekeeper.health.evidence.Outcome`."""

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
_SAYINGS: tuple[tuple[Says, str], ...] = (
    ("login_restored", rf"^({_RESTORED})$"),
    ("login_lost", rf"\b({_LOST})\b|^(fail|re ?auth(entication|ori[sz]ation)?)$"),
    ("refused", r"^(inactive|deactivated|not enough credits)$"),
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
_EXPRESSIONS = tuple((says, re.compile(pattern)) for says, pattern in _SAYINGS)
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
    """The entities that a sync's end was of, as the sender calls them; none: all of them."""


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
            result = _read(_texts(payload, _RESULT))
            return result if result in ("sync_failing", "login_lost") else "answered"
        case "sync.failed":
            # A login is lost where a code or a sentence says so, not where a table is called so.
            lost = _read(_texts(payload, _RESULT)) == "login_lost" or any(
                map(_means_lost_login, _values(payload, (*_CODE, *_MESSAGE)))
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
    for section in (*(part for part in inner if isinstance(part, dict)), payload):
        for name in _ENTITY:
            value = section.get(name)
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


def _means_lost_login(value: str) -> bool:
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
    for section in (*(part for part in inner if isinstance(part, dict)), payload):
        for name in names:
            value = section.get(name)
            if isinstance(value, bool):
                yield str(value).lower()
            elif isinstance(value, int | str) and str(value).strip():
                yield str(value)
