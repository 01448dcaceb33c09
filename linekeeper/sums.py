"""What several parts counted, added up."""

from dataclasses import fields
from typing import Any


def add_up(total: Any, part: Any) -> None:
    """Add what `part` has in each field to what `total`, a dataclass of the same kind, has there.

    Numbers and lists are added, sets and maps united.
    """
    for each in fields(total):
        before, more = getattr(total, each.name), getattr(part, each.name)
        both = before | more if isinstance(before, set | dict) else before + more
        setattr(total, each.name, both)
