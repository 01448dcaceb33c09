"""What messages are for and about, as conditions and columns of a statement.

Messages of before migration 0059 say it in their keys alone, which are read here and nowhere else:
a process of the version before may write such ones while this one takes over. Once no migration
`serves` a schema before 0059 any more, what is marked "of before" can go.
"""

from collections.abc import Mapping
from typing import Any, Literal

from sqlalchemy import ColumnElement, func, or_

from linekeeper.store.tables import Outbox
from linekeeper.store.types import table_of

_OUTBOX = table_of(Outbox)
Kind = Literal["", "say", "slip", "digest", "wake", "look", "follow_up", "mail"]
"""What a message is for, where others of its channel are for something else.

In Slack `say` is about no incident; so are `slip`, of an implementation, and `digest`. A run is to
`wake` and see to its implementation, or to `look` at it as was planned; `follow_up` starts one in
the place of one that is lost. `mail` is to a customer, about a case.
"""
_KEYS: Mapping[Kind, str] = {
    "say": "slack:say:",
    "slip": "slack:say:implementation:{}:slip:",
    "digest": "slack:say:digest:",
    "wake": "implementation:{}:wake:",
    "look": "implementation:{}:wake:",
    "follow_up": "after:{}:",
    "mail": "email:{}:",
}
"""Of before: what the dedupe keys of each kind begin with."""
_PLANNED = ":at:"
_FORWARD = "forward:"
_IS_OF_BEFORE: ColumnElement[bool] = _OUTBOX.c.kind.is_(None)


def is_a(*kinds: Kind, subject: str | None = None) -> ColumnElement[bool]:
    """Whether a message is of one of these kinds, and about that, where it is given."""
    is_it = _OUTBOX.c.kind.in_(kinds)
    if subject is not None:
        is_it &= _OUTBOX.c.subject == subject
    of_before = or_(*(_says_so(kind, subject) for kind in kinds))
    return or_(is_it, _IS_OF_BEFORE & of_before)


def _says_so(kind: Kind, subject: str | None) -> ColumnElement[bool]:
    key = _OUTBOX.c.dedupe_key
    says_so: ColumnElement[bool] = key.startswith(_KEYS[kind].format(subject), autoescape=True)
    return says_so & key.contains(_PLANNED) if kind == "look" else says_so


def attempt_of(payload: Mapping[str, Any], dedupe_key: str) -> int:
    """The attempt of the case that a mail is about."""
    return int(payload["attempt"] if "attempt" in payload else dedupe_key.split(":")[2])


def followed_by_key(idempotency_key: str) -> str | None:
    """Of before: the lost run that a run with that key follows; None: it follows none."""
    beginning, _, rest = idempotency_key.partition(":")
    return rest.partition(":")[0] if beginning == "after" else None


def is_about_connection(connection_id: str) -> ColumnElement[bool]:
    """Whether a forward is about that connection."""
    of_before = _OUTBOX.c.ordering_key.endswith(f"/{connection_id}", autoescape=True)
    return or_(_OUTBOX.c.subject == connection_id, _IS_OF_BEFORE & of_before)


def is_about_incident(incident_id: str) -> ColumnElement[bool]:
    """Whether a message to a fallback channel is about that incident alone."""
    of_before = _OUTBOX.c.dedupe_key.contains(f":{incident_id}:", autoescape=True)
    return or_(_OUTBOX.c.subject == incident_id, _IS_OF_BEFORE & of_before)


def is_for(destination: str) -> ColumnElement[bool]:
    """Whether a forward goes to that destination."""
    of_before = _OUTBOX.c.ordering_key.startswith(f"{_FORWARD}{destination}/", autoescape=True)
    return or_(_OUTBOX.c.destination == destination, _OUTBOX.c.destination.is_(None) & of_before)


def destination_of(destination: str | None, ordering_key: str) -> str:
    """Where a forward goes, by its columns."""
    if destination is not None:
        return destination
    return ordering_key.removeprefix(_FORWARD).partition("/")[0]  # of before


def destination_column(*, is_sqlite: bool) -> Any:
    """Where a forward goes."""
    return func.coalesce(_OUTBOX.c.destination, _part_of_key("/", is_sqlite))


def app_column(*, is_sqlite: bool) -> Any:
    """Whose forward it is."""
    return func.coalesce(_OUTBOX.c.app, _part_of_key("@", is_sqlite))


def _part_of_key(end: str, is_sqlite: bool) -> Any:
    """Of before: `forward:<app>/…` or `forward:<app>@<target>/…` up to `end` or `/`.

    No app's name has one of the two in it.
    """
    rest = func.substr(_OUTBOX.c.ordering_key, len(_FORWARD) + 1).concat("/")
    marked = func.replace(rest, end, "/")
    slash = func.instr(marked, "/") if is_sqlite else func.strpos(marked, "/")
    return func.substr(rest, 1, slash - 1)
