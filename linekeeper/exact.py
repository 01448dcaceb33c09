"""Reading JSON without losing digits: a key may be a number of more than 64 bits.

orjson reads such a number as a float, which keeps 17 of its digits: two keys could become one.
"""

import json
import re
from typing import Any

import orjson

MOST_DIGITS = 19
"""A whole number of so many digits always has 64 bits."""
_ABOVE = 2**64
"""The first that orjson reads as a float."""
_DIGITS = bytes.maketrans(b"123456789", b"0" * 9)
_RUN = b"0" * (MOST_DIGITS + 1)
_BARE = re.compile(rb"(?:[\[:,\s]|\A)-?\d{%d}" % (MOST_DIGITS + 1))
"""Such a number where it isn't within quotes, but for some texts."""


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
