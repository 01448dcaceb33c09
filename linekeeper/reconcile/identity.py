"""What tells a record from every other, whatever its key: natural keys, and contents without keys.

Makini's keys are opaque, and a new connection may rename them all. Pure and total.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple

import orjson

from linekeeper.makini.fields import instant
from linekeeper.store.keys import MAX_KEY, stored_key


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
    return instant(record.get("updatedAt") or record.get("updated_at"))


def is_deleted(record: Mapping[str, Any], *, now: datetime) -> bool:
    """Whether the source lists it as deleted: with the time at which it was.

    A time to come is none: systems note there until when a record is valid. A day is left for
    clocks, and for local times without a zone.
    """
    said = record.get("deletedAt") or record.get("deleted_at")
    at = None if said is None else instant(said)
    return at is not None and at <= now + timedelta(days=1)


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


NUMBERS = ("code", "orderNo", "serialNumber")
"""Fields with the number people call a record by."""
NATURAL_KEYS: Mapping[str, Sequence[str]] = {
    "work-orders": ("code", "title", "createdAt"),
    "assets": ("serialNumber", "name", "siteKey"),
    "purchase-orders": ("orderNo", "vendorKey"),
    "sites": ("code", "name"),
    "locations": ("code", "name"),
    "vendors": ("code", "name"),
    "materials": ("code", "name"),
}
"""The last part of an entity's path → the fields that tell its records apart."""
MAX_NUMBER = 200
"""Characters of a number that are kept."""
_KEYS = re.compile(r"key|id|.*(?:Keys?|_keys?|Ids?|_ids?)", re.DOTALL)


class RecordIdentity(NamedTuple):
    """How a record is recognised under another key."""

    number: str | None = None
    natural_key: str | None = None
    """`<which fields>.<hash of the first>.<of the second> …`; a field without a value has none."""
    plain_hash: str | None = None


NOBODY = RecordIdentity()
"""The identity of a record of which nothing is known."""


def identifying_fields(settings: Mapping[str, str], entity: str) -> tuple[str, ...]:
    """The fields of `entity` by `settings` (`code + title`), else by the built-in table."""
    chosen = settings.get(entity)
    if chosen is not None:
        return tuple(name for part in chosen.split("+") if (name := part.strip()))
    return tuple(NATURAL_KEYS.get(entity.rpartition("/")[2], ()))


def is_reference(field: str) -> bool:
    """Whether a field holds the key of another record, which is renamed as well."""
    return field.endswith(("Key", "_key"))


def identity(record: Mapping[str, Any], text: bytes, fields: Sequence[str]) -> RecordIdentity:
    """The identity of `record`, whose JSON is `text` (`content`)."""
    return RecordIdentity(number(record), natural_key(record, fields), plain_hash(record, text))


def number(record: Mapping[str, Any]) -> str | None:
    """The number people call it by, as text any database holds; None where it has none."""
    for name in NUMBERS:
        value = record.get(name)
        if value is None or isinstance(value, bool) or not isinstance(value, _WRITTEN):
            continue
        said = str(value).strip()[:MAX_NUMBER]
        if said:
            if not said.isascii():
                said = said.encode("utf-8", "replace").decode()
            return said.replace("\0", "") or None
    return None


_WRITTEN = (str, int)


def natural_key(record: Mapping[str, Any], fields: Sequence[str]) -> str | None:
    """Hashes of `fields`; None where too few have a value to tell the record from others.

    Enough are: all of them, the number, or any two that aren't both keys of other records.
    """
    if not fields:
        return None
    signed, known = _named(tuple(fields))
    hashes, values, scalars, numbered = [signed], 0, False, False
    for name, write, is_scalar, is_number in known:
        written = write(record.get(name))
        if written is None:
            hashes.append("")
            continue
        hashes.append(blake2b(written, digest_size=6).hexdigest())
        values += 1
        scalars = scalars or is_scalar
        numbered = numbered or is_number
    if not scalars or not (numbered or values >= 2 or values == len(known)):
        return None
    return ".".join(hashes)


@lru_cache(maxsize=256)
def signature(fields: tuple[str, ...]) -> str:
    """Which fields a natural key is made from: keys made from others can't be compared with it."""
    return blake2b("\0".join(fields).encode("utf-8", "replace"), digest_size=3).hexdigest()


_Write = Callable[[Any], bytes | None]


@lru_cache(maxsize=256)
def _named(fields: tuple[str, ...]) -> tuple[str, list[tuple[str, _Write, bool, bool]]]:
    """The signature of `fields`; of each its name, how its value is written, and whether it is no
    key, and the number."""
    known: list[tuple[str, _Write, bool, bool]] = []
    for name in fields:
        write = _plain_time if name.endswith("At") else _plain
        known.append((name, write, not is_reference(name), name in NUMBERS))
    return signature(fields), known


def plain_hash(record: Mapping[str, Any], text: bytes) -> str:
    """64 bits of the contents without any keys, in hex; `text` is its JSON (`content`)."""
    is_whole = text.startswith(b"{")  # and not only the names of what is nested too deep
    keys_of = _keys_of if is_whole and len(text) <= REMEMBERED else _keys_of.__wrapped__
    if is_whole and text.find(b"{", 1) < 0:  # it has no other object in it
        text = content(_cut(record, keys_of))
    else:
        with suppress(RecursionError):
            text = content(_without_keys(record, keys_of))
    return blake2b(text, digest_size=8).hexdigest()


_KeysOf = Callable[[tuple[str, ...]], tuple[str, ...]]


def _without_keys(value: Any, keys_of: _KeysOf) -> Any:
    if not isinstance(value, Mapping):
        return [
            _without_keys(item, keys_of) if isinstance(item, _NESTED) else item for item in value
        ]
    plain = _cut(value, keys_of)
    for name, held in plain.items():
        if isinstance(held, _NESTED):
            plain[name] = _without_keys(held, keys_of)
    return plain


_NESTED = (dict, list)


def _cut(value: Mapping[str, Any], keys_of: _KeysOf) -> dict[str, Any]:
    """`value` without its own keys."""
    plain = dict(value)
    for name in keys_of(tuple(plain)):
        del plain[name]
    return plain


REMEMBERED = 16_000
"""Bytes of a record up to which its fields' names are remembered: what strangers send is kept."""


@lru_cache(maxsize=512)
def _keys_of(names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of `names` that are of keys; nearly all records of an entity have the same names."""
    return tuple(name for name in names if _KEYS.fullmatch(name))


def _plain(value: Any) -> bytes | None:
    """A value as bytes that are the same however it is written; None where it says nothing."""
    if isinstance(value, str):
        return value.strip().encode("utf-8", "surrogatepass") or None
    if value is None or isinstance(value, bool):
        return None
    return str(value).encode() if isinstance(value, _NUMBER) else content({"": value})


_NUMBER = (int, float)


def _plain_time(value: Any) -> bytes | None:
    """The same of a time, which has a moment."""
    if isinstance(value, str) and (time := instant(value)) is not None:
        return orjson.dumps(time)[1:-1]  # as its `isoformat`, in a third of the time
    return _plain(value)
