"""Who and what a delivery is, whatever is in it."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linekeeper.config import DEFAULT_ENTITIES
from linekeeper.exact import read, read_fields
from linekeeper.inbox.identify import (
    DeliveryIdentity,
    as_stored,
    identify,
    make_delivery,
    record_keys,
)
from linekeeper.inbox.meaning import EventNames

NOW = datetime(2027, 3, 1, 12, tzinfo=UTC)
NAMES = EventNames(DEFAULT_ENTITIES, {})
ID = "0195c0de-0000-7000-8000-000000000001"


def of(body: object, headers: dict[bytes, bytes] | None = None, **more) -> DeliveryIdentity:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return identify("default", NAMES, headers or {}, more.pop("url", None), raw, now=NOW, **more)


def test_makinis_own_example_is_a_record_event_without_id_connection_or_time() -> None:
    found = of({"event": "assets.updated", "body": ["0900", "0901"]})
    assert found.delivery_id is None
    assert len(found.content_key) == 64
    assert (found.kind, found.entity, found.rank) == ("record.updated", "eam/assets", 1)
    assert (found.connection_ref, found.event_at) == (None, None)


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ({b"x-webhook-id": b"h1", b"webhook-id": b"h2"}, {"id": "b"}, "b"),
        ({b"webhook-id": b"h2"}, {"id": "b"}, "b"),
        ({b"x-webhook-id": b"  "}, {"id": "b", "event_id": "e"}, "b"),
        ({}, {"id": 42}, "42"),
        ({}, {"id": True, "event_id": "e"}, "e"),
        ({}, {"id": {"a": 1}, "event_id": ["x"]}, None),
        ({}, {"id": " ", "eventId": "e"}, "e"),
        ({}, ["id"], None),
    ],
)
def test_a_signed_delivery_id_is_the_first_of_the_list(headers, body, expected) -> None:
    assert of(body, headers).delivery_id == expected


@pytest.mark.parametrize(
    ("header", "shown"),
    [(b"h1", "h1"), ("æ".encode(), "æ"), (b"\xe6", "æ"), (b"x" * 200, "x" * 200)],
)
def test_an_id_of_an_unsigned_header_counts_together_with_the_body(header, shown) -> None:
    found = of({"n": 1}, {b"x-webhook-id": header}).delivery_id or ""
    assert found.rpartition("#")[0] == shown
    assert found == of({"n": 1}, {b"x-webhook-id": header}).delivery_id
    assert found != of({"n": 2}, {b"x-webhook-id": header}).delivery_id
    assert of({"n": 1}, {b"webhook-id": b"h2", b"x-webhook-id": header}).delivery_id == found


def test_under_standard_webhooks_only_the_signed_id_of_the_headers_counts() -> None:
    headers = {b"x-webhook-id": b"invented", b"webhook-id": b"signed"}
    assert of({}, headers, scheme="standard").delivery_id == "signed"


def test_an_id_is_verbatim_up_to_200_characters_and_hashed_beyond() -> None:
    assert of({"id": "é" * 200}).delivery_id == "é" * 200
    long = "x" * 10_000
    assert of({"id": long}).delivery_id == f"sha256:{hashlib.sha256(long.encode()).hexdigest()}"


@pytest.mark.parametrize("text", ["a\r\nSet-Cookie: x", "a\0b", "\u202egnp.exe", "\ud800", "a\tb"])
def test_what_could_break_a_column_a_log_or_a_header_is_hashed(text: str) -> None:
    assert as_stored(text).startswith("sha256:")
    assert as_stored(text) == as_stored(text)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("assets\0.updated", "assets\ufffd.updated"),
        ("work\u202e-orders.deleted", "work\ufffd-orders.deleted"),
        ("connection\ud800auth_required", "connection\ufffdauth_required"),
        ("sites\r\n.inserted", "sites\ufffd\ufffd.inserted"),
        ("assets.updated", "assets.updated"),
        ("x" * 190 + ".updated", "x" * 190 + ".updated"),
        ("x" * 300 + ".updated", "x" * 200 + "…"),
    ],
)
def test_an_events_name_can_be_read_and_means_the_same_as_it_was_sent(name, shown) -> None:
    found = of({"event": name, "body": ["1"]})
    assert found.event == shown
    assert NAMES.meaning(found.event) == (found.kind, found.entity)  # a replay reads it


def test_the_same_content_has_the_same_key_only_in_the_same_place() -> None:
    body = {"event": "assets.updated", "body": ["1"]}
    assert of(body).content_key == of(body).content_key
    others = [of(body, url="c1"), of(body, url="c2"), of({**body, "n": 1})]
    others.append(identify("other", NAMES, {}, None, json.dumps(body).encode(), now=NOW))
    assert len({found.content_key for found in [of(body), *others]}) == 5


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"connection_id": "a", "integration_id": "b"}, "a"),
        ({"connectionId": 7}, "7"),
        ({"connection": {"id": "c"}}, "c"),
        ({"connection": "d"}, "d"),
        ({"connection": {}, "integration_id": "e"}, "e"),
        ({}, "url"),
        (b"\xff not json", "url"),
    ],
)
def test_the_connection_is_named_by_the_body_else_by_the_url(body, expected) -> None:
    found = of(body, url="url")
    assert (found.connection_ref, found.url_connection) == (expected, "url")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2027-03-01T11:00:00Z", NOW - timedelta(hours=1)),
        ("2027-03-01T13:00:00+02:00", NOW - timedelta(hours=1)),
        ("2027-03-01T11:00:00", NOW - timedelta(hours=1)),
        (NOW.timestamp() - 1, NOW - timedelta(seconds=1)),
        (int(NOW.timestamp() * 1000) - 1000, NOW - timedelta(seconds=1)),
        (str(int(NOW.timestamp()) - 1), NOW - timedelta(seconds=1)),
        ("2031-01-01T00:00:00Z", NOW),
        ("1970-01-01", None),
        ("yesterday", None),
        (True, None),
        (1e308, None),
        ("9" * 500, None),
        ("9999-12-31T23:59:59-12:00", None),
    ],
)
def test_the_senders_time_is_read_and_never_later_than_now(value, expected) -> None:
    assert of({"timestamp": value}).event_at == expected


def test_events_about_connections_come_before_records() -> None:
    assert of({"type": "connection.auth_required"}).rank == 0
    assert of({"type": "sync.failed"}).rank == 0
    assert of({"type": "assets.updated"}).rank == 1
    assert of({"type": "who knows"}).rank == 1


def test_a_delivery_without_id_carries_a_merge_key_and_one_with_id_does_not() -> None:
    without = make_delivery(ID, "default", of({"n": 1}), b"", received_at=NOW)
    assert without.delivery_key == f"content:{ID}"
    assert without.merge_key is not None
    assert without.ordering_key == ID
    named = make_delivery(
        ID, "default", of({"id": "a", "connection_id": "c"}), b"", received_at=NOW
    )
    assert (named.delivery_key, named.merge_key, named.ordering_key) == ("a", None, "default/c")


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({"body": ["007", "007", "8"]}, ["007", "8"]),
        ({"body": [{"key": "007"}, {"id": 8}, {"x": 1}, None, 9]}, ["007", "8", "9"]),
        ({"data": {"key": "1"}}, ["1"]),
        ({"body": "007"}, ["007"]),
        ({"body": 8}, ["8"]),
        ({"body": "two sites changed", "keys": ["007"]}, ["007"]),
        ({"body": "", "data": None}, []),
        ([], []),
        (None, []),
    ],
)
def test_record_keys_are_text_each_once_in_order(payload, expected) -> None:
    assert record_keys(payload) == expected


def test_json_that_is_too_deep_is_no_json() -> None:
    assert read(b"[" * 100_000 + b"]" * 100_000) is None
    assert of(b"[" * 100_000).kind == "unknown"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "event", "type", "connection", "timestamp", "body", "key"])
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(
    body=st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode()),
    url=st.none() | st.text(max_size=20),
    header=st.binary(max_size=20),
)
def test_any_body_has_an_identity_that_can_be_stored(body, url, header) -> None:
    found = of(body, {b"x-webhook-id": header}, url=url)
    assert bool(found.delivery_id) != bool(found.content_key)
    record_keys(read(body))
    for text in found:
        if isinstance(text, str):
            assert len(text) <= 200
            assert text.isprintable()
            text.encode()


@given(json_values.map(lambda value: json.dumps(value).encode()))
def test_reading_only_the_fields_that_are_asked_for_gives_what_reading_all_gives(body) -> None:
    assert asked(read_fields(body, ASKED)) == asked(read(body))


ASKED = {"id", "connection"}


def asked(payload: Any) -> Any:
    """Of an object the fields that are asked for: what is read beside them says nothing."""
    if isinstance(payload, dict):
        return {name: value for name, value in payload.items() if name in ASKED}
    return payload


@pytest.mark.parametrize(
    "body",
    [
        b'{"id":1e999,"x":NaN}',
        b'{"id":90000000000000000001}',
        b'{"id":"\\ud800","x":"\\ud800"}',
        b'\xef\xbb\xbf{"id":"a"}',
        b'{"id":1,"i\\u0064":2}',
        b'{"id":{"id":90000000000000000001}}',
        b'{"id":' + b"7" * 5_000 + b"}",
        b'{"id":"a","x":' + b"[" * 999 + b"]" * 999 + b"}",
        b'{"id":"a","x":' + b"[" * 2_000 + b"]" * 2_000 + b"}",
        b'{"id":"a"}x',
        b'{"id":"a","x":[1,]}',
        b'{"id":"a","x":01}',
        b'{"id":"\xff"}',
    ],
)
def test_odd_json_is_read_the_same_whichever_fields_are_asked_for(body) -> None:
    assert asked(read_fields(body, ASKED)) == asked(read(body))


def test_a_text_that_is_not_utf8_hides_nothing_that_stands_beside_it() -> None:
    found = of(b'{"id":"a","connection_id":"c","event":"assets.updated","x":"\xff"}')
    assert (found.delivery_id, found.connection_ref) == ("a", "c")
