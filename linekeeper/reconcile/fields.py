"""What the index needs of a record as Makini sends it. Total: any JSON object will do."""

import json
from collections.abc import Mapping
from datetime import datetime
from hashlib import blake2b
from typing import Any

import orjson

from linekeeper.makini.fields import instant
from linekeeper.store.keys import MAX_KEY, stored_key

_YEARS = range(1900, 9000)


def record_key(record: Mapping[str, Any]) -> str | None:
    """The record's key as it is stored, None if it has none.

    Keys are opaque text with leading zeros (Makini docs); a number is taken as it is written.
    """
    value = record.get("key")
    if type(value) is str and 0 < len(value) <= MAX_KEY and value.isalnum() and value.isascii():
        return value
    if value is None:
        value = record.get("id")
    if isinstance(value, str):
        return stored_key(value) if value else None
    if isinstance(value, int) and not isinstance(value, bool):
        return stored_key(str(value))
    return None


def source_time(record: Mapping[str, Any]) -> datetime | None:
    """When the source says it last changed, aware, UTC; None where it doesn't say.

    A time without a zone is taken as UTC (Makini docs). One no calendar has is as good as none.
    """
    found = instant(record.get("updatedAt") or record.get("updated_at"))
    return found if found is not None and found.year in _YEARS else None


def content(record: Mapping[str, Any]) -> bytes:
    """The record as JSON, the same for the same contents whatever their order."""
    try:
        return orjson.dumps(record, option=orjson.OPT_SORT_KEYS)
    except (TypeError, ValueError):  # lone surrogates, or nested deeper than orjson writes
        try:
            return json.dumps(record, sort_keys=True).encode("ascii")
        except RecursionError:
            return json.dumps(sorted(map(str, record))).encode("ascii")


def content_hash(text: bytes) -> str:
    """128 bits of BLAKE2b of `content`, in hex."""
    return blake2b(text, digest_size=16).hexdigest()
