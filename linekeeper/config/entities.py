"""Names of entities: an area of Makini's API and what is listed there. Pure."""

import re
from collections.abc import Iterable, Sequence

ENTITY = re.compile(r"[\w-]+/[\w-]+(?:\.[\w-]+)*", re.ASCII)
"""One may have a dot in it, such as erp/purchase-orders.line-items (MAKINI "Found since")."""
HOW = "write each with its area, such as eam/work-orders"
MOST_SHOWN = 60


def require_entities(names: Iterable[str]) -> tuple[str, ...]:
    """`names`, each once, or `ValueError` for those that are no entity's."""
    wanted = tuple(dict.fromkeys(names))
    wrong = [name for name in wanted if not ENTITY.fullmatch(name)]
    if wrong:
        raise ValueError(f"{_listed(wrong)} can't be an entity: {HOW}")
    return wanted


def resolve_entities(names: Iterable[str], known: Sequence[str]) -> list[str]:
    """The entities called `names` in full: `assets` is each of `known` that ends so.

    One with its area need not be known. Raises `ValueError` that offers what is.
    """
    resolved: dict[str, None] = {}
    wrong = []
    for name in (name.strip().strip("/") for name in names if name.strip()):
        short = [entity for entity in known if entity.rpartition("/")[2] == name]
        if not short and not ENTITY.fullmatch(name):
            wrong.append(name)
        resolved.update(dict.fromkeys(short or [name]))
    if wrong:
        raise ValueError(
            f"no entity is called {_listed(wrong)}; enter {', '.join(known)}, or another with its "
            "area, such as eam/locations"
        )
    return list(resolved)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name[:MOST_SHOWN]) for name in names)
