"""Text from outside in Markdown: it shows itself, and does nothing else."""

import re
import unicodedata
from datetime import UTC, datetime

from hypothesis import example, given
from hypothesis import strategies as st

from linekeeper.markdown import code, link, literal, text, when
from tests.reading import MARKDOWN, cells, nasty

NOW = datetime(2026, 11, 24, 20, 15, tzinfo=UTC)


def plain(value: str) -> str:
    """What a reader should see of `value`, said independently of the code under test."""
    kept = "".join(c for c in value if unicodedata.category(c) != "Cf")
    return " ".join("".join(c if c.isprintable() else " " for c in kept).split())


@given(st.lists(nasty, min_size=1, max_size=4))
@example(["a\\", "b|c", "\\|", "\\\\"])
def test_text_from_outside_shows_itself_and_never_breaks_a_table(values: list[str]) -> None:
    row = [text(value, 50) for value in values]
    header = " | ".join("h" for _ in row)
    rule = " | ".join("---" for _ in row)
    table = f"| {header} |\n| {rule} |\n| {' | '.join(row)} |\n"
    assert "<" not in table
    assert ">" not in table
    rows = cells(table)
    assert len(rows) == 2
    for shown, value in zip(rows[1], values, strict=True):
        wanted = plain(value)
        wanted = wanted if len(wanted) <= 50 else f"{wanted[:49]}…"
        assert shown.replace("\u2060", "") == (wanted or "—")


@given(nasty)
@example("1. Plant")
@example("- ")
@example("===")
def test_text_from_outside_is_no_entry_of_a_list(value: str) -> None:
    tokens = [token.type for token in MARKDOWN.parse(f"Systems\n\n- {literal(value)}\n")]
    assert tokens.count("list_item_open") == 1
    assert tokens.count("paragraph_open") == 1 + bool(plain(value))


@given(nasty)
def test_text_from_outside_never_becomes_an_address_to_click(value: str) -> None:
    shown = text(value, 600)
    assert not re.search(r"://|www\.|@[-\w]", shown, re.IGNORECASE)


@given(nasty)
@example("acme_prod_1 & Söhne #2")
@example("_lean_ ~~gone~~ `id` [a](https://evil.example) &lt;b&gt; <b> \\ 5 * 5")
def test_a_label_says_the_same_where_its_escapes_are_shown_as_they_stand(value: str) -> None:
    """Prefect's pages show a label unparsed; other readers of Markdown parse it."""
    made = link(value, "../../runs/1", 600)
    [inline] = [token for token in MARKDOWN.parse(f"| a |\n|---|\n| {made} |\n")
                if token.type == "inline" and token.content != "a"]  # fmt: skip
    [opened, said, closed] = inline.children or []
    assert (opened.type, said.type, closed.type) == ("link_open", "text", "link_close")
    assert opened.attrGet("href") == "../../runs/1"
    assert f"[{said.content}](../../runs/1)" == made
    assert link(value, None, 600) == text(value, 600)


def test_an_ordinary_name_stays_as_it_is_in_a_label() -> None:
    for name in ("acme_prod_1", "Smith & Söhne", "C# Werke!", "A/B - SAP (ECC)"):
        assert link(name, "../x") == f"[{name}](../x)"


@given(nasty)
def test_an_id_is_code_only_if_it_looks_like_one(value: str) -> None:
    shown = code(value)
    assert shown == f"`{value}`" or shown == text(value, 100)
    assert code("req_01-AB.c:9") == "`req_01-AB.c:9`"


def test_times_are_absolute_and_said_in_utc() -> None:
    assert when(NOW) == "2026-11-24 20:15 UTC"
    assert when(None) == "—"
