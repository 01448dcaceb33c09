"""Words that several settings share."""

from typing import Literal

ForwardForm = Literal["envelope", "original"]


def is_slug(value: str) -> bool:
    """Whether a name has letters, digits, - and _ only."""
    return bool(value) and all(c.isalnum() or c in "-_" for c in value)
