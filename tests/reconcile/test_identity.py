"""What a record is known by stays the same from version to version: it is stored, and compared."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linekeeper.makini.fields import instant
from linekeeper.reconcile import identity as known_by
from linekeeper.reconcile.identity import (
    NUMBERS,
    content,
    content_hash,
    identity,
    is_reference,
    natural_key,
    number,
    plain_hash,
)

FIELDS = ("code", "title", "siteKey", "createdAt")
NAMES = st.sampled_from(
    ("key", "id", "siteKey", "site_keys", "assetIds", "keyword", "paid", "tasks", *FIELDS, *NUMBERS)
) | st.text(max_size=5)
TEXTS = (
    st.text()
    | st.text(st.characters(), max_size=6)  # lone surrogates, too
    | st.sampled_from(("", " ", "\0", "{", "[{", "2026-01-01T10:00:00Z", "2026-01-01", " WO-1 "))
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
RECORDS = st.dictionaries(NAMES, VALUES, max_size=8)


# As version 0.2.0 first computed them, which is what databases hold


def first_plain_hash(record: Mapping[str, Any]) -> str:
    return blake2b(content(_without_keys(record)), digest_size=8).hexdigest()


def _without_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: _without_keys(held)
            for name, held in value.items()
            if not (name in ("key", "id") or name.endswith(_KEY_ENDINGS))
        }
    return [_without_keys(held) for held in value] if isinstance(value, list) else value


_KEY_ENDINGS = ("Key", "Keys", "_key", "_keys", "Id", "Ids", "_id", "_ids")


def first_natural_key(record: Mapping[str, Any], fields: tuple[str, ...]) -> str | None:
    said = {name: _plain(name, record.get(name)) for name in fields}
    there = [name for name, value in said.items() if value is not None]
    if all(map(is_reference, there)):
        return None
    if len(there) < 2 and len(there) < len(fields) and not set(there) & set(NUMBERS):
        return None
    signed = blake2b("\0".join(fields).encode(), digest_size=3).hexdigest()
    hashes = [
        "" if value is None else blake2b(value, digest_size=6).hexdigest()
        for value in said.values()
    ]
    return ".".join([signed, *hashes])


def _plain(name: str, value: Any) -> bytes | None:
    if isinstance(value, str):
        moment = instant(value) if name.endswith("At") else None
        if moment is not None:
            return moment.isoformat().encode()
        return value.strip().encode("utf-8", "surrogatepass") or None
    if value is None or isinstance(value, bool):
        return None
    return str(value).encode() if isinstance(value, int | float) else content({"": value})


def first_number(record: Mapping[str, Any]) -> str | None:
    for name in NUMBERS:
        value = record.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
            said = str(value).strip()[:200].replace("\0", "")
            return said.encode("utf-8", "replace").decode() or None
    return None


@given(RECORDS, st.sampled_from((FIELDS, ("serialNumber", "name"), ("siteKey",), ("tasks",), ())))
def test_a_record_is_known_by_what_it_was_known_by_before(
    record: dict[str, Any], fields: tuple[str, ...]
) -> None:
    for _ in range(2):  # the second time the names of its fields are known
        assert identity(record, content(record), fields) == (
            first_number(record),
            first_natural_key(record, fields),
            first_plain_hash(record),
        )


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_moment_is_known_as_before(moment: datetime) -> None:
    record = {"createdAt": moment.isoformat()}
    known = natural_key(record, ("createdAt",))
    assert known == first_natural_key(record, ("createdAt",))


@given(RECORDS)
def test_the_order_of_fields_says_nothing_and_the_record_stays_as_it_is(
    record: dict[str, Any],
) -> None:
    before = json.dumps(record)
    turned = dict(reversed(record.items()))
    known = identity(record, content(record), FIELDS)
    assert identity(turned, content(turned), FIELDS) == known
    assert json.dumps(record) == before


def test_the_hashes_of_a_known_record_are_those_in_databases() -> None:
    record = {
        "key": "00015604689245", "siteKey": "00169953894299", "title": "Align tower fan 923",
        "code": "WO-000001", "tasks": [{"key": "1", "done": False}], "notes": None,
        "createdAt": "2025-01-06T00:00:00.000000Z",
    }  # fmt: skip
    text = content(record)
    assert content_hash(text) == "cff25d581e5f7019c9dd9ef409089f95"
    assert plain_hash(record, text) == "af281d25125e8b7c"
    assert number(record) == "WO-000001"
    assert (
        natural_key(record, ("code", "title", "createdAt"))
        == "fce25b.1d2bc303c843.a1f3e67c0fb7.3d11e4e49735"
    )


@pytest.mark.parametrize("depth", [300, 2_000])
def test_a_record_nested_too_deep_is_known_all_the_same(depth: int) -> None:
    nested: dict[str, Any] = {"key": "1"}
    for _ in range(depth):
        nested = {"key": "1", "inner": nested}
    assert len(plain_hash(nested, content(nested))) == 16


def test_names_of_large_records_are_not_remembered() -> None:
    before = known_by._keys_of.cache_info().currsize
    large = {f"{'name' * 1_000}{n}": datetime.now(UTC).isoformat() for n in range(10)}
    plain_hash(large, content(large))
    assert known_by._keys_of.cache_info().currsize == before
