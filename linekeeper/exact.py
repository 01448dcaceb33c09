"""Reading the JSON of others without losing digits: a key may be a number of more than 64 bits.

orjson reads such a number as a float, which keeps 17 of its digits: two keys could become one.
`loads` raises where it is no JSON; `read` and `read_fields` are total.
"""

import codecs
import json
import re
from collections.abc import Set
from typing import Any

import msgspec
import orjson

MOST_DIGITS = 19
"""A whole number of so many digits always has 64 bits."""
_ABOVE = 2**64
"""The first that orjson reads as a float."""
_DIGITS = bytes.maketrans(b"123456789", b"0" * 9)
_RUN = b"0" * (MOST_DIGITS + 1)
_BARE = re.compile(rb"(?:[\[:,\s]|\A)-?\d{%d}" % (MOST_DIGITS + 1))
"""The pattern of such a number where it isn't within quotes, but for some texts."""

DEEPEST = 1_000
"""Levels of nesting: Python's own reader of JSON gives up there, orjson soon after."""
_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*(?:"|\Z)|[\[\]{}]', re.DOTALL)
"""One of them, or a whole string: what is in it opens nothing."""
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
"""Finds where each value begins and ends, and makes none of it."""


def loads(body: bytes) -> Any:
    """What orjson reads, but whole numbers of more than 64 bits are text, as they are written.

    Raises as orjson does.
    """
    value = orjson.loads(body)
    # Looking for the digits costs less than reading; the pattern would cost three times as much.
    if _RUN not in body.translate(_DIGITS) or _BARE.search(body) is None:
        return value
    try:
        return json.loads(body, parse_int=whole_number)
    except (ValueError, RecursionError):
        return value


def whole_number(digits: str) -> int | str:
    """A whole number as JSON has it: text where it has more than 64 bits."""
    if len(digits) <= MOST_DIGITS + 1 and -_ABOVE // 2 <= (number := int(digits)) < _ABOVE:
        return number
    return digits


def read(body: bytes) -> Any:
    """The JSON of `body`; None where it is none (or nested deeper than `DEEPEST`)."""
    plain = body.removeprefix(codecs.BOM_UTF8)
    try:
        return loads(plain)
    except (ValueError, RecursionError):
        return None if is_too_deep(plain) else _read_slowly(plain)


def read_fields(body: bytes, names: Set[str]) -> Any:
    """What `read` gives, where of an object only the fields `names` are wanted.

    The others are passed over, which is a tenth of the work. Text that isn't UTF-8 in one of them
    makes it no worse, although `read` gives None there.
    """
    # From Python 3.13 on what is passed over may be nested deeper than `read` takes it.
    if len(body) > 2 * DEEPEST and body.count(b"[") + body.count(b"{") > DEEPEST:
        return read(body)
    try:
        fields = _OBJECT.decode(body)
        return {name: _value(fields[name]) for name in fields.keys() & names}
    except (ValueError, RecursionError):
        return read(body)


def _value(raw: msgspec.Raw) -> Any:
    value = msgspec.json.decode(raw)
    return value if isinstance(value, str) else loads(bytes(raw))


def _read_slowly(body: bytes) -> Any:
    """JSON that orjson doesn't read: of lone surrogates, or of numbers of hundreds of digits.

    Such a number is taken as it is written.
    """
    try:
        return json.loads(body.decode(), parse_int=whole_number, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None


def is_too_deep(body: bytes) -> bool:
    """Whether `body` is nested deeper than `DEEPEST`, which is read by nobody here."""
    depth = 0
    for part in _BRACKETS.finditer(body):
        opened = part[0]
        depth += 1 if opened in b"[{" else -1 if opened in b"]}" else 0
        if depth > DEEPEST:
            return True
    return False


def _refuse(constant: str) -> None:
    raise ValueError(constant)
