"""What an event's name means: one of our kinds, and the entity it is about.

One literal name is public, `assets.updated` (Makini docs); the others are inferred, so names are
read as words, whatever separates them, and an operator's own patterns are asked first.
"""

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

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
_ABOUT_CONNECTIONS = (
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
_BUILT_IN = tuple((kind, re.compile(pattern)) for kind, pattern in _ABOUT_CONNECTIONS)


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
            found = self._entities.get(singular[start:])
            if found is not None:
                return found
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
