"""The cells of a CSV of customers: each gives a value, or says what is wrong with it. Pure."""

import re
import zoneinfo
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from linekeeper.customers.naming import hosting, tier

MAX_TEXT = 200
NAMED = 5
"""So many contacts of a cell that are no mail addresses are named."""
_YES = {"yes", "y", "true", "1", "x", "critical", "ja", "oui", "si", "sí"}
_NO = {"no", "n", "false", "0", "-", "nein", "non"}
_MAIL = re.compile(r"[^\s@<>,;:\"()\[\]\\]{1,64}@[^\s@<>,;:\"()\[\]\\]{1,190}\.[^\s@.,;<>\"]{2,63}")
_LOCALE = re.compile(
    r"[a-z]{2,3}(-[a-z]{4})?(-([a-z]{2}|[0-9]{3}))?(-([a-z0-9]{5,8}|[0-9][a-z0-9]{3}))*",
    re.IGNORECASE,
)
"""A language and, in this order, perhaps a script, a region and variants (RFC 5646)."""


@dataclass(frozen=True, slots=True)
class ContactCell:
    """A contact; the mail address in lower case."""

    email: str
    name: str = ""


class BadCell(ValueError):
    """A cell, or the file itself, that can't be understood; the message says why."""


def is_mail_address(text: str) -> bool:
    """Whether somebody can be mailed at `text`."""
    return _MAIL.fullmatch(text) is not None


def _name(cell: str) -> str:
    text = one_line(cell)
    if text is None:
        raise BadCell("it is empty: every customer has a name")
    return text


def one_line(cell: str) -> str | None:
    """Its text, without needless spaces; None where there is none. Raises `BadCell`."""
    text = " ".join(cell.split())
    if len(text) > MAX_TEXT:
        raise BadCell(f"it has {len(text):,} characters, {MAX_TEXT} are allowed")
    if not text.isprintable():
        raise BadCell("it has characters that can't be shown")
    return text or None


def _contacts(cell: str) -> tuple[ContactCell, ...]:
    people: dict[str, ContactCell] = {}
    bad: list[str] = []
    for part in _parts(cell):
        name, mail = _named(part)
        if is_mail_address(mail):
            people[mail] = ContactCell(mail, one_line(name) or "")
        else:
            bad.append(repr(shown(part)))
    if bad:
        and_more = f" and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
        are = "is no mail address" if len(bad) == 1 else "are no mail addresses"
        said = f"{', '.join(bad[:NAMED])}{and_more} {are}"
        raise BadCell(f"{said}: write `Name <mail>; Name <mail>` or `mail`")
    return tuple(people.values())


def _named(part: str) -> tuple[str, str]:
    """Name and address of `Name <mail>` or `mail`; what is neither comes back as an address.

    No pattern: one for both had to try every way to share out a run of spaces.
    """
    text = part.strip()
    name, opened, rest = text.partition("<")
    if not opened or not rest.endswith(">"):
        return "", text.lower()
    name = name.strip()
    if len(name) > 1 and name[0] == name[-1] == '"':
        name = name[1:-1]
    if '"' in name or ">" in name:
        return "", text.lower()
    return name, rest[:-1].strip().lower()


def _parts(cell: str) -> list[str]:
    """The contacts of a cell: separated by `;` or line breaks, or by commas between addresses."""
    parts = re.split(r"[;\r\n]", cell)
    split = [
        piece
        for part in parts
        for piece in (re.split(r",(?=[^,]*@)", part) if part.count("@") > 1 else [part])
    ]
    return [piece for piece in split if piece.strip()]


def _time_zone(cell: str) -> str | None:
    text = one_line(cell)
    if text is None:
        return None
    zone = _zones().get(text.casefold().replace(" ", "_"))
    if zone is None:
        raise BadCell(f"{shown(text)!r} is no time zone: write it as Europe/Berlin or UTC")
    return zone


def _locale(cell: str) -> str | None:
    text = one_line(cell)
    if text is None:
        return None
    locale = text.replace("_", "-")
    if len(locale) > 35 or not _LOCALE.fullmatch(locale):
        raise BadCell(f"{shown(text)!r} is no locale: write it as en, de or pt-BR")
    return locale


def _yes_or_no(cell: str) -> bool | None:
    word = cell.strip().casefold()
    if not word:
        return None
    if word in _YES or word in _NO:
        return word in _YES
    raise BadCell(f"{shown(word)!r} is neither yes nor no")


def _hosting(cell: str) -> str | None:
    """Return the hosting as Makini's metadata says it; the tier is as well."""
    word = one_line(cell) or ""
    known = hosting({"hosting": word})
    if word and known is None:
        raise BadCell(f"{shown(word)!r} is neither cloud, on-premises nor self-hosted")
    return known


def _tier(cell: str) -> str | None:
    word = one_line(cell) or ""
    known = tier({"tier": word})
    if word and known is None:
        raise BadCell(f"{shown(word)!r} is neither I, II nor III")
    return known


PARSERS: dict[str, Callable[[str], object]] = {
    "name": _name,
    "contacts": _contacts,
    "time zone": _time_zone,
    "locale": _locale,
    "owner": one_line,
    "critical": _yes_or_no,
    "hosting": _hosting,
    "tier": _tier,
    "new": _yes_or_no,
}


@cache
def _zones() -> dict[str, str]:
    return {name.casefold(): name for name in zoneinfo.available_timezones()}


def shown(text: str) -> str:
    """A piece of the file fit for one line."""
    plain = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
    return plain if len(plain) <= 40 else f"{plain[:40]}…"
