"""Asking for some records only. Pure; the parameters are partly inferred (MAKINI "Data API")."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from linekeeper.config import SinceFilter

KEYS_IN_A_QUERY = 50
CHARACTERS_IN_A_QUERY = 3000
"""Well under the 8 KB that common servers take as a request line, percent-encoded."""

Query = list[tuple[str, str]]


def filter_queries(
    style: SinceFilter,
    since: datetime | None,
    keys: Sequence[str] | None,
    *,
    reverse: bool = False,
) -> Iterator[Query]:
    """Yield the parameters of each listing needed: one, or one for each bunch of keys.

    With `reverse` the records are asked for with the greatest key first.
    """
    changed = [_since(style, since)] if since is not None else []
    if reverse:
        changed.append(("sort[key]", "1"))
    if keys is None:
        yield changed
        return
    for bunch in _bunches(keys):
        query = [*changed, *(("filter[key]", key) for key in bunch)]
        if len(bunch) > 1:
            query.append(("filterMatch", "any"))
        yield query


def _since(style: SinceFilter, since: datetime) -> tuple[str, str]:
    moment = since.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return ("modified_after" if style == "modified_after" else "filter[updatedAt:gteq]"), moment


def _bunches(keys: Sequence[str]) -> Iterator[list[str]]:
    bunch: list[str] = []
    characters = 0
    for key in dict.fromkeys(keys):
        if bunch and (
            len(bunch) == KEYS_IN_A_QUERY or characters + len(key) > CHARACTERS_IN_A_QUERY
        ):
            yield bunch
            bunch, characters = [], 0
        bunch.append(key)
        characters += len(key)
    if bunch:
        yield bunch
