"""Parsing is total: any JSON, any bytes give a value or MakiniError, never another exception."""

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linekeeper.makini import ErrorKind, RecordPage, normalise_status, normalise_sync_status
from linekeeper.makini.failures import from_answer, read_error_body, retry_after
from linekeeper.makini.fields import clean, expiry, instant, text
from linekeeper.makini.models import (
    WrongShape,
    parse_connections,
    parse_metadata,
    parse_rows,
    parse_status,
    parse_tokens,
)
from linekeeper.makini.paging import Pages, parse_page

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
LISTINGS = ["data", "meta", "last_page", "next_cursor", "key", "id", "name", "tags", "value"]
TOKENS = ["user_metadata", "created_at", "sync_status", "access_token", "expires_in"]
ERRORS = ["error", "errors", "message", "code", "request_id"]
FIELDS = st.sampled_from([*LISTINGS, *TOKENS, *ERRORS])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["2026-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "1e400", "-5", "nan"])
)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(FIELDS | st.text(max_size=5), inner, max_size=6)
    ),
    max_leaves=25,
)
PARSERS: list[Callable[[Any], object]] = [
    lambda value: parse_status(value, request_id=None, latency=0.0),
    lambda value: parse_tokens(value, now=NOW, minted=False),
    lambda value: parse_connections(parse_rows(value)),
    parse_metadata,
]


@given(JSON)
def test_any_json_gives_a_value_or_says_what_is_missing(value: object) -> None:
    for parse in PARSERS:
        with suppress(WrongShape):
            parse(value)


@given(st.lists(JSON, max_size=5), st.sampled_from(["page", "cursor"]))
def test_any_answers_to_a_listing_end_or_say_what_is_wrong(
    answers: list[object], style: Any
) -> None:
    pages = Pages(style, 2)
    for answer in answers:
        try:
            pages.answered(parse_page(answer))
        except WrongShape:
            return
        if pages.question is None:
            return


@pytest.mark.parametrize("depth", [100, 400, 900])
def test_json_nested_as_deep_as_it_may_be_is_no_trouble(depth: int) -> None:
    deep = "[" * depth + "]" * depth
    body = f'{{"data": [{{"user_metadata": {{"a": {deep}}}, "tags": {deep}, "key": {deep}}}]}}'
    value = orjson.loads(body)
    Pages("page", 2).answered(parse_page(value))
    assert isinstance(parse_metadata(value["data"][0]["user_metadata"])["a"], str)
    with pytest.raises(WrongShape):
        parse_connections(parse_rows(value))
    read_error_body(f'{{"message": {deep}, "errors": {deep}}}'.encode())


def test_a_listing_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("linekeeper.makini.paging.MAX_PAGES", 10)
    pages = Pages("page", 2)
    for n in range(9):
        pages.answered(RecordPage([{"key": str(n)}], last_page=10**9))
    pages.answered(RecordPage([{"key": "9"}], last_page=10**9))
    assert pages.question is None
    with pytest.raises(WrongShape, match="the list has no end"):
        pages.finish()


@given(st.binary() | JSON.map(json.dumps).map(str.encode))
def test_any_error_body_gives_a_short_clean_message(body: bytes) -> None:
    error = from_answer(500, {}, body, app="a", connection=None, now=NOW)
    assert error.kind is ErrorKind.unavailable
    assert len(error.message) <= 300
    assert str(error).isprintable()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"code": "A", "message": "m", "request_id": "r"}, ("A", "m", "r")),
        ({"error": {"code": "A", "message": "m", "requestId": "r"}}, ("A", "m", "r")),
        ({"error": "RATE_LIMIT_EXCEEDED", "requestId": 7}, ("RATE_LIMIT_EXCEEDED", "", "7")),
        ({"error": "The token is bad"}, ("", "The token is bad", None)),
        ({"message": "Unauthenticated."}, ("", "Unauthenticated.", None)),
        (
            {"message": "Invalid.", "errors": {"page": ["Too big.", "Odd."], "x": "Bad."}},
            ("", "Invalid. Too big. Odd. Bad.", None),
        ),
        ({"errors": [{"message": "Bad."}]}, ("", "Bad.", None)),
        ([], ("", "", None)),
    ],
)
def test_error_bodies_are_read_in_every_shape(body: object, expected: tuple[object, ...]) -> None:
    assert read_error_body(orjson.dumps(body)) == expected


def test_an_error_page_is_named_by_its_title() -> None:
    page = b"\n<html><head><TITLE>502 Bad\nGateway</TITLE></head>"
    assert read_error_body(page)[1] == "an HTML page titled “502 Bad Gateway” instead of JSON"


@given(st.text() | st.none())
def test_any_retry_after_is_seconds_up_to_an_hour_or_nothing(value: str | None) -> None:
    seconds = retry_after(value, NOW)
    assert seconds is None or 0 <= seconds <= 3600


@given(SCALARS)
def test_any_expiry_is_an_aware_time_or_nothing(value: object) -> None:
    moment = expiry(value, NOW)
    assert moment is None or moment.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (300, NOW + timedelta(seconds=300)),
        ("300", NOW + timedelta(seconds=300)),
        (10**9, NOW + timedelta(seconds=10**9)),
        (1_800_000_000, datetime.fromtimestamp(1_800_000_000, UTC)),
        ("1800000000", datetime.fromtimestamp(1_800_000_000, UTC)),
        (1_800_000_000_000, datetime.fromtimestamp(1_800_000_000, UTC)),
        (0, None),
        (-1, None),
        (True, None),
        ("soon", None),
        (None, None),
        ([], None),
        (float("nan"), None),
        (1e300, None),
    ],
)
def test_expires_in_is_absolute_above_a_billion(value: object, expected: datetime | None) -> None:
    assert expiry(value, NOW) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("20251126", datetime(2025, 11, 26, tzinfo=UTC)),
        ("1764120101234", datetime(2025, 11, 26, 1, 21, 41, 234_000, UTC)),
        (" 1764120101234 ", datetime(2025, 11, 26, 1, 21, 41, 234_000, UTC)),
        ("1901010112345", datetime(2030, 3, 29, 10, 21, 52, 345_000, UTC)),
        ("1764120101", datetime(2025, 11, 26, 1, 21, 41, tzinfo=UTC)),
    ],
)
def test_digits_are_a_unix_time_also_where_they_look_like_a_day_and_an_hour(
    value: str, expected: datetime
) -> None:
    assert instant(value) == expected


@given(SCALARS)
def test_any_timestamp_is_an_aware_time_or_nothing(value: object) -> None:
    moment = instant(value)
    assert moment is None or moment.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "value",
    [
        '{"customer": "Acme", "tier": 2, "live": true, "none": null}',
        {"customer": "Acme", "tier": 2, "live": True, "none": None},
        [
            {"key": "customer", "value": "Acme"},
            {"key": "tier", "value": 2},
            {"key": "live", "value": True},
            {"key": "none", "value": None},
            {"value": "nameless"},
            "stray",
        ],
    ],
)
def test_metadata_is_the_same_in_every_shape(value: object) -> None:
    assert parse_metadata(value) == {"customer": "Acme", "tier": "2", "live": "true"}


@pytest.mark.parametrize("value", ["", "not json", "7", None, 7, [], {}])
def test_metadata_that_is_none_is_empty(value: object) -> None:
    assert parse_metadata(value) == {}


@pytest.mark.parametrize(
    ("text_", "expected"),
    [
        ("Active", "active"),
        ("ACTIVE ", "active"),
        ("In progress", "in_progress"),
        ("in_progress", "in_progress"),
        ("IN-PROGRESS", "in_progress"),
        ("Synchronizing", "synchronizing"),
        ("Pending", "pending"),
        ("Inactive", "inactive"),
        ("", "unknown"),
        ("Activeish", "unknown"),
        ("unknown", "unknown"),
    ],
)
def test_a_lifecycle_is_matched_whatever_its_case_and_separators(text_: str, expected: str) -> None:
    assert normalise_status(text_) == expected


def test_a_sync_status_is_the_documented_word_or_itself() -> None:
    assert [normalise_sync_status(s) for s in ("FAIL", "In Progress", "fulldone", "Odd one")] == [
        "fail",
        "inprogress",
        "fulldone",
        "Odd one",
    ]


def test_a_key_keeps_its_leading_zeros_and_loses_what_no_database_stores() -> None:
    assert text("09000207611898") == "09000207611898"
    assert text("a\x00b\u2028c") == "a b c"
    assert text(7) == "7"
    assert text(True) == ""


@given(st.text(), st.integers(1, 50))
def test_clean_text_is_printable_and_fits(value: str, limit: int) -> None:
    cleaned = clean(value, limit)
    assert cleaned.isprintable()
    assert len(cleaned) <= limit
