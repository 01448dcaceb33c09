"""Lists and maps as text, since a block's form shows anything else as a JSON editor."""

import re


def comma_list(text: str) -> tuple[str, ...]:
    """The entries of a list separated by commas or line breaks."""
    return tuple(part.strip() for part in re.split(r"[,\n]", text) if part.strip())


def pairs(text: str) -> dict[str, str]:
    """The entries of a map, `name = value`, separated by commas or line breaks.

    Raises `ValueError` for an entry without `=`, and for a name that is given twice.
    """
    entries: dict[str, str] = {}
    for entry in comma_list(text):
        name, separator, value = entry.partition("=")
        if not separator or not name.strip() or not value.strip():
            raise ValueError(f"{entry!r} is not of the form name = value")
        if entries.setdefault(name.strip(), value.strip()) != value.strip():
            raise ValueError(f"{name.strip()!r} is given twice")
    return entries
