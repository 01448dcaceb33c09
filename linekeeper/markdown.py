"""Markdown for artifacts, from text nobody vouches for. Pure; times are shown in UTC.

Whatever comes from outside (names, messages, ids) is shown as text and nothing else: it can't
break a table, make a link or an image, or turn the reading direction round.
"""

import base64
import re
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime

MAX_NAME, MAX_MESSAGE, MAX_ID = 60, 160, 100
NOT_TAKEN = "**Your last answer was not taken:**"
_SPECIAL = str.maketrans({char: f"\\{char}" for char in "\\`*_[]|~#"} | {"<": "&lt;", ">": "&gt;"})
_LOOKALIKES = str.maketrans("[]<>|`*~\\", "()‹›¦'∗∼/")
"""What stands in a link's label for what would be Markdown there (`link`)."""
_EDGE_LINE = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
"""What makes text italic: not within a word."""
_ENTITY = re.compile(r"&(?=#?\w+;)")
_LINK_LIKE = re.compile(r":(?=//)|www(?=\.)|@", re.IGNORECASE)
_BLOCK_LIKE = re.compile(r"^(?:(\d+)(?=[.)](?:\s|$))|(?=[-+]\s|[-+=]+$))")
"""Where what begins a line would make it an entry of a list or a rule."""
_WORD_JOINER = "\u2060"


def text(value: str | None, most: int = MAX_NAME) -> str:
    """`value` as Markdown that shows it, on one line of at most `most` characters; `—` if empty."""
    return literal(value, most) or "—"


def literal(value: str | None, most: int | None = None) -> str:
    """`value` as Markdown that shows it, on one line; all of it where `most` is not given."""
    safe = _ENTITY.sub("&amp;", _line(value, most)).translate(_SPECIAL)
    return _kept_apart(_BLOCK_LIKE.sub(r"\1\\", safe))


def link(label: str | None, url: str | None, most: int = MAX_NAME) -> str:
    """A link to `url` that says `label`; where there is no `url`, the text alone.

    Prefect's pages show a label as it stands, with each backslash and entity: what would be
    Markdown in it is replaced by what looks like it.
    """
    if not url:
        return text(label, most)
    plain = _EDGE_LINE.sub("\uff3f", _ENTITY.sub("\uff06", _line(label, most)))
    return f"[{_kept_apart(plain.translate(_LOOKALIKES)) or '—'}]({url})"


def _line(value: str | None, most: int | None) -> str:
    shown = (
        char if char.isprintable() else " "
        for char in value or ""
        if unicodedata.category(char) != "Cf"
    )
    flat = " ".join("".join(shown).split())
    return flat if most is None or len(flat) <= most else f"{flat[: most - 1]}…"


def _kept_apart(safe: str) -> str:
    """`safe` with a joiner nobody sees, which keeps addresses from becoming links."""
    return _LINK_LIKE.sub(rf"\g<0>{_WORD_JOINER}", safe)


def code(value: str | None) -> str:
    """An id to copy."""
    if value and re.fullmatch(rf"[A-Za-z0-9._:-]{{1,{MAX_ID}}}", value):
        return f"`{value}`"
    return text(value, MAX_ID)


def when(at: datetime | None) -> str:
    """An absolute time, which stays true as the page that shows it ages; `—` if there is none."""
    return f"{at:%Y-%m-%d %H:%M} UTC" if at is not None else "—"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the cells are Markdown already."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def linked_text(link: str) -> str:
    """What a Markdown link says: `fleet` of `[fleet](https://…)`."""
    return link.partition("](")[0].removeprefix("[")


def image(alt: str, svg: str) -> str:
    """A picture that goes with the text."""
    return f"![{alt}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"


def not_taken(fault: str | None) -> str:
    """What a form begins with where the last answer was refused for `fault`, Markdown already."""
    return f"{NOT_TAKEN} {fault}.\n\n" if fault else ""


def without_title(markdown: str, title: str) -> str:
    """A page without its first heading, where that says no more than `title` above it does."""
    heading, _, page = markdown.partition("\n")
    return page.lstrip("\n") if heading in (f"# {title}", f"# {literal(title)}") else markdown
