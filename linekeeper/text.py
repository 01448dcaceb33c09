"""Text from outside, made safe to show or to store.

It is names of customers, messages of Makini, operators' words. Control characters and bidirectional
overrides are dropped, right-to-left text is isolated from what surrounds it, and nothing in it can
mention a person, a channel or everybody. Lengths are UTF-16 units, the larger of the two ways in
which Slack's limits can be read.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from typing import Protocol

from linekeeper.people import person

NAME_LIMIT = 150
MAX_STORED = 200
"""Characters of a sender's id or reference kept verbatim (INTERFACE "Tables")."""

_JOINERS = "\u200c\u200d"  # without them Persian, Hindi and many emoji fall apart
_ISOLATE, _END_ISOLATE = "\u2068", "\u2069"
_DROPPED = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
_BLANKS = re.compile(r"[^\S\n]+")
_MANY_LINES = re.compile(r"\n{3,}")
_LOUD = re.compile(r"@(?=(?:channel|here|everyone|group)\b)", re.IGNORECASE)
_LOOKALIKES = str.maketrans({"*": "\u2217", "~": "\u223c", "`": "'"})
"""Slack's mrkdwn can't escape what makes text bold, struck out or code."""
_EDGE_LINE = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
"""What makes text italic: not within a word."""
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def clean(raw: str, *, keep_lines: bool = False) -> str:
    """`raw` without what can't be seen; on one line unless `keep_lines`."""
    text = "".join(map(_visible, raw))
    if not keep_lines:
        text = text.replace("\n", " ")
    text = _MANY_LINES.sub("\n\n", _BLANKS.sub(" ", text))
    return _LOUD.sub("@\u2060", text.strip())


def shown(
    raw: str,
    limit: int = NAME_LIMIT,
    *,
    escape: Callable[[str], str] = str,
    keep_lines: bool = False,
) -> str:
    """`raw`, cleaned, every character through `escape`, cut to `limit` with `…` if need be."""
    text = clean(raw, keep_lines=keep_lines)
    if text.isascii() or not any(unicodedata.bidirectional(c) in ("R", "AL") for c in text):
        return _cut(text, limit, escape)
    return _ISOLATE + _cut(text, limit - 2, escape) + _END_ISOLATE


def as_stored(text: str) -> str:
    """`text` itself if it is printable and at most `MAX_STORED` long, else `sha256:` and its hash.

    So no NUL, line break, direction mark or lone surrogate gets into a column, a log or a header.
    """
    if len(text) <= MAX_STORED and text.isprintable():
        return text
    return "sha256:" + sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def readable(text: str) -> str:
    """`text` with U+FFFD for each character that can't be printed, cut to `MAX_STORED` and `…`.

    For what people read and what is nobody's identity: two texts may become the same.
    """
    if len(text) > MAX_STORED:
        return f"{readable(text[:MAX_STORED])}…"
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


def escaped(character: str) -> str:
    """A character of Slack's mrkdwn: the three it gives a meaning to are escaped."""
    return _ESCAPES.get(character, character)


def without_angles(character: str) -> str:
    """A character of Slack's plain text, in which nothing is escaped."""
    return {"<": "\u2039", ">": "\u203a"}.get(character, character)


def width(text: str) -> int:
    """The length Slack's limits are held to: in units of UTF-16."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def letters(name: str) -> str:
    """What `sap-ecc` and `SAP ECC` have in common: Makini writes both."""
    return "".join(char for char in name.casefold() if char.isalnum())


SEPARATOR = re.compile(r"\s+(?:·|-|–|—|\||/|:)\s+")
"""What stands between customer and system in a connection's name, whoever wrote it."""


def in_parts(name: str) -> str:
    """A connection's name with `·` between its parts, as titles have it."""
    return " · ".join(SEPARATOR.split(name))


def closed(text: str) -> str:
    """`text`, which may be several sentences: then the last one ends as the others do."""
    return f"{text}." if ". " in text and text[-1] not in ".!?" else text


def counted(number: int, noun: str) -> str:
    """`1 record`, `1,234 records`, `2 entities`."""
    if number == 1:
        return f"1 {noun}"
    many = f"{noun[:-1]}ies" if noun[-1] == "y" and noun[-2] not in "aeiou" else f"{noun}s"
    return f"{number:,} {many}"


def named(names: Iterable[str], limit: int = 5) -> str:
    """`a, b, c and 7 more`."""
    every = list(names)
    remaining = len(every) - limit
    return ", ".join(every[:limit]) + (f" and {remaining} more" if remaining > 0 else "")


def sentences(said: Iterable[str], limit: int = 5) -> str:
    """`this; that; and 7 more`."""
    every = list(said)
    remaining = len(every) - limit
    return "; ".join([*every[:limit], *([f"and {remaining} more"] if remaining > 0 else [])])


def duration(length: timedelta) -> str:
    """`less than a minute`, `12 min`, `3 h 5 min`, `2 d 4 h`."""
    minutes = max(0, int(length.total_seconds() // 60))
    if minutes < 1:
        return "less than a minute"
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h" if hours else f"{days} d"
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{minutes} min"


@lru_cache(4_096)
def _visible(character: str) -> str:
    if character.isspace() or unicodedata.category(character) in ("Zl", "Zp"):
        return "\n" if character in "\n\u2028\u2029" else " "
    if character not in _JOINERS and unicodedata.category(character) in _DROPPED:
        return ""
    return character


def _cut(text: str, limit: int, escape: Callable[[str], str]) -> str:
    pieces = [escape(c) for c in text]
    if width("".join(pieces)) <= limit:
        return "".join(pieces)
    kept: list[str] = []
    left = limit - 1
    for piece in pieces:
        left -= width(piece)
        if left < 0:
            break
        kept.append(piece)
    return "".join(kept).rstrip(" \u200d") + "…"


class Pen(Protocol):
    """How a message is written: for Slack, or for a log."""

    def text(self, raw: str, limit: int = NAME_LIMIT, *, keep_lines: bool = False) -> str:
        """Text from outside."""
        ...

    def strong(self, label: str) -> str:
        """A label of ours."""
        ...

    def code(self, raw: str) -> str:
        """A code or id from outside."""
        ...

    def moment(self, at: datetime) -> str:
        """A time."""
        ...

    def link(self, url: str, label: str) -> str:
        """A link of ours."""
        ...

    def person(self, owner: str) -> str:
        """Who owns it (`linekeeper.people`): in Slack its members and groups are mentioned."""
        ...


class Mrkdwn:
    """Slack's mrkdwn. Times are shown in the reader's own zone."""

    def text(self, raw: str, limit: int = NAME_LIMIT, *, keep_lines: bool = False) -> str:
        plain = _EDGE_LINE.sub("\uff3f", raw.translate(_LOOKALIKES))
        return shown(plain, limit, escape=escaped, keep_lines=keep_lines)

    def strong(self, label: str) -> str:
        return f"*{label}*"

    def code(self, raw: str) -> str:
        return f"`{shown(raw.replace('`', chr(39)), escape=escaped)}`"

    def moment(self, at: datetime) -> str:
        form = "{date_short_pretty} at {time}"
        return f"<!date^{int(at.timestamp())}^{form}|{_utc(at)}>"

    def link(self, url: str, label: str) -> str:
        target = url.replace("|", "%7C").replace("<", "%3C").replace(">", "%3E")
        return f"<{target.replace('&', '&amp;')}|{label}>"

    def person(self, owner: str) -> str:
        whom = person(owner)
        return whom.mention or self.text(whom.name)


class Plain:
    """Plain text for logs, `linekeeper status` and runs. Times are UTC and say so."""

    def text(self, raw: str, limit: int = NAME_LIMIT, *, keep_lines: bool = False) -> str:
        return shown(raw, limit, keep_lines=keep_lines)

    def strong(self, label: str) -> str:
        return f"{label}:"

    def code(self, raw: str) -> str:
        return self.text(raw)

    def moment(self, at: datetime) -> str:
        return _utc(at)

    def link(self, url: str, label: str) -> str:
        return f"{label} {url}"

    def person(self, owner: str) -> str:
        return self.text(person(owner).shown)


def _utc(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def health_name(health: str) -> str:
    """What people read for a health, the same on every screen; also for an incident's kind."""
    return health.replace("_", " ").capitalize()


LISTED = "Listed as active"


def is_only_listed(health: str, evidence: str | None) -> bool:
    """Whether nothing but Makini's list says that a connection is well."""
    return health == "healthy" and evidence in (None, "listed")


def state_name(health: str, evidence: str | None) -> str:
    """What people read for the health of one connection: what is only listed is not *healthy*."""
    return LISTED if is_only_listed(health, evidence) else health_name(health)
