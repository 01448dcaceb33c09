"""A listing is read to its end, whatever way its source has of saying where that is."""

from collections.abc import Callable
from typing import Any, Literal, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linekeeper.config import Paging
from linekeeper.makini.errors import ErrorKind
from linekeeper.makini.models import WrongShape
from linekeeper.makini.paging import Pages, parse_page

Answer = dict[str, Any] | list[Any]
Source = Callable[[dict[str, str]], Answer]
Word = Callable[[dict[str, Any], int, bool], Answer]
"""An answer with what a source says of its end: given the answer, the total, and whether more
follows."""

WORDS: dict[str, Word] = {
    "nothing": lambda answer, total, more: answer["data"],
    "total": lambda answer, total, more: {**answer, "meta": {"total": total}},
    "link": lambda answer, total, more: {**answer, "links": {"next": "?page=9" if more else None}},
    "total and link": lambda answer, total, more: {
        **answer,
        "links": {"next": "?page=9" if more else None},
        "meta": {"total": total},
    },
}
CURSORS: dict[str, Callable[[dict[str, Any], str | None], Answer]] = {
    "at the top": lambda answer, cursor: {**answer, "next_cursor": cursor},
    "empty": lambda answer, cursor: {**answer, "nextCursor": cursor or ""},
    "in meta": lambda answer, cursor: {**answer, "meta": {"next_cursor": cursor}},
    "in pagination": lambda answer, cursor: {**answer, "pagination": {"nextCursor": cursor}},
    "with a link": lambda answer, cursor: {
        **answer, "meta": {"next_cursor": cursor}, "links": {"next": cursor and f"?c={cursor}"},
    },
}  # fmt: skip


def rows(count: int) -> list[dict[str, str]]:
    return [{"key": f"{n:05}"} for n in range(count)]


def counting(count: int, size: int, word: str) -> Source:
    """A source that counts pages."""

    def answer(asked: dict[str, str]) -> Answer:
        start = (int(asked.get("page", "1")) - 1) * size
        found = rows(count)[start : start + size]
        return WORDS[word]({"data": found}, count, start + size < count)

    return answer


def pointing(count: int, size: int, place: str) -> Source:
    """A source that gives cursors and ignores `page`."""

    def answer(asked: dict[str, str]) -> Answer:
        start = int(asked.get("cursor", "0"))
        found = rows(count)[start : start + size]
        more = str(start + size) if start + size < count else None
        return CURSORS[place]({"data": found}, more)

    return answer


def everything(count: int, word: str) -> Source:
    """A source that gives all it has, whatever is asked."""
    return lambda _asked: WORDS[word]({"data": rows(count)}, count, False)


def read(source: Source, style: Paging, per_page: int) -> tuple[int, int]:
    """How many rows came, with how many questions."""
    pages, count, asked = Pages(style, per_page), 0, 0
    while (question := pages.question) is not None:
        asked += 1
        page = parse_page(source(dict(question)))
        if pages.answered(page):
            count += len(page.records)
    pages.finish()
    return count, asked


@pytest.mark.parametrize("place", list(CURSORS))
@pytest.mark.parametrize("style", ["page", "cursor"])
@pytest.mark.parametrize("count", [0, 99, 100, 101, 200, 250])
def test_a_source_with_cursors_is_read_to_its_end_whatever_style_was_asked_for(
    style: Paging, place: str, count: int
) -> None:
    asked = max(1, -(-count // 100))
    assert read(pointing(count, 100, place), style, 100) == (count, asked)


@pytest.mark.parametrize("word", ["total", "link", "total and link"])
@pytest.mark.parametrize("style", ["page", "cursor"])
@pytest.mark.parametrize("count", [100, 200, 300])
def test_a_source_that_says_it_gave_everything_is_asked_once(
    style: Paging, word: str, count: int
) -> None:
    assert read(everything(count, word), style, 100) == (count, 1)


@pytest.mark.parametrize("word", list(WORDS))
@pytest.mark.parametrize("count", [0, 99, 100, 101, 200, 250])
def test_a_source_that_counts_pages_is_read_to_its_end(word: str, count: int) -> None:
    assert read(counting(count, 100, word), "page", 100)[0] == count


@pytest.mark.parametrize("word", list(WORDS))
@pytest.mark.parametrize("count", [0, 19, 20, 21, 40, 60, 99])
def test_a_source_that_gives_fewer_a_page_than_it_is_asked_for_is_read_to_its_end(
    word: str, count: int
) -> None:
    assert read(counting(count, 20, word), "page", 100)[0] == count


@pytest.mark.parametrize("kind", [ErrorKind.rejected, ErrorKind.not_found])
def test_a_page_beyond_the_end_that_is_refused_is_the_end_where_nothing_was_said(
    kind: ErrorKind,
) -> None:
    pages = Pages("page", 100)
    pages.answered(parse_page({"data": rows(20)}))
    assert pages.question is not None
    assert pages.is_end(kind)
    assert not pages.is_end(ErrorKind.unavailable)


@pytest.mark.parametrize(
    "said", [{"links": {"next": "?page=2"}}, {"meta": {"total": 60}}, {"meta": {"last_page": 2}}]
)
def test_a_page_that_is_refused_though_the_source_said_that_there_is_one_is_not_the_end(
    said: dict[str, Any],
) -> None:
    pages = Pages("page", 100)
    pages.answered(parse_page({"data": rows(20), **said}))
    assert pages.question is not None
    assert not pages.is_end(ErrorKind.not_found)


@pytest.mark.parametrize("count", [100, 300])
def test_where_cursors_are_asked_for_no_word_of_more_is_the_end(count: int) -> None:
    assert read(everything(count, "nothing"), "cursor", 100) == (count, 1)


@pytest.mark.parametrize("count", [100, 300])
def test_a_repeated_page_of_which_nothing_is_said_is_never_taken_for_the_end(count: int) -> None:
    with pytest.raises(WrongShape, match=r"repeats page 2.*set the app's paging to cursor"):
        read(everything(count, "nothing"), "page", 100)


@pytest.mark.parametrize("total", [99, 101, 0])
def test_a_total_that_does_not_fit_ends_no_listing(total: int) -> None:
    with pytest.raises(WrongShape, match="repeats page 2"):
        read(lambda _: {"data": rows(100), "meta": {"total": total}}, "page", 100)


def test_a_null_cursor_beside_a_larger_total_is_believed_where_cursors_are_asked_for() -> None:
    answer = {"data": rows(100), "meta": {"total": 250, "next_cursor": None}}
    assert read(lambda _: answer, "cursor", 100) == (100, 1)
    with pytest.raises(WrongShape, match="repeats page 2"):
        read(lambda _: answer, "page", 100)


@given(
    st.sampled_from(["counting", "pointing", "everything"]),
    st.integers(0, 400),
    st.integers(1, 120),
    st.integers(1, 120),
    st.sampled_from(list(WORDS)),
    st.sampled_from(list(CURSORS)),
    st.sampled_from(["page", "cursor"]),
)
def test_no_honest_source_is_read_in_part(
    kind: Literal["counting", "pointing", "everything"],
    count: int,
    per_page: int,
    cap: int,
    word: str,
    place: str,
    style: str,
) -> None:
    if kind == "counting" and word == "nothing":
        style = "page"  # asked for cursors it would look like one that gave everything
    source = {
        "counting": lambda: counting(count, min(per_page, cap), word),
        "pointing": lambda: pointing(count, min(per_page, cap), place),
        "everything": lambda: everything(count, word),
    }[kind]()
    try:
        came, _ = read(source, cast("Paging", style), per_page)
    except WrongShape:
        assert (kind, word, style) == ("everything", "nothing", "page")
    else:
        assert came == count
