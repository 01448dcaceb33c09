"""Markdown as another parser reads it, and text nobody would wish to render."""

import base64
import itertools
import re
from collections.abc import Iterable
from xml.etree import ElementTree

from hypothesis import strategies as st
from markdown_it import MarkdownIt

MARKDOWN = MarkdownIt("commonmark", {"linkify": False}).enable(["table", "strikethrough"])
MARKDOWN.validateLink = lambda _: True  # by default it refuses SVG as an image

nasty = st.one_of(
    st.text(max_size=600),
    st.text(alphabet="|\\`*_[]()<>&~#!\n\r\t :/@w.-$^{}\u202e\u200b\u2028\x00a", max_size=60),
    st.sampled_from(
        [
            "](https://evil.example)",
            "![x](https://evil.example/p.png)",
            "<img src=x onerror=alert(1)>",
            "&lt;script&gt;",
            "| a | b |\n|---|---|",
            "trailing \\",
            "https://evil.example/login and www.evil.example, a@evil.example",
            "\u202etxet desrever",
            "```\ncode",
            "&#124;",
            "<!-- ",
            "N" * 500,
        ]
    ),
)


def cells(markdown: str) -> list[list[str]]:
    """The rows of the only table in `markdown` as another parser renders them."""
    tokens = MARKDOWN.parse(markdown)
    rows: list[list[str]] = []
    for token, inside in itertools.pairwise(tokens):
        if token.type == "tr_open":
            rows.append([])
        if token.type in ("td_open", "th_open"):
            rows[-1].append("".join(child.content for child in inside.children or []))
            assert {child.type for child in inside.children or []} <= {"text", "text_special"}
    return rows


def svgs(markdown: str) -> list[ElementTree.Element]:
    return [
        ElementTree.fromstring(base64.b64decode(found))
        for found in re.findall(r"\(data:image/svg\+xml;base64,([^)]+)\)", markdown)
    ]


def columns(markdown: str) -> set[int]:
    """The numbers of columns of all tables' rows, as another parser sees them."""
    tokens = MARKDOWN.parse(markdown)
    found: set[int] = set()
    for n, token in enumerate(tokens):
        if token.type == "tr_open":
            row = itertools.takewhile(lambda one: one.type != "tr_close", tokens[n:])
            found.add(sum(one.type in ("td_open", "th_open") for one in row))
    return found


def targets(markdown: str) -> Iterable[str]:
    for token in MARKDOWN.parse(markdown):
        for child in token.children or []:
            if child.type in ("link_open", "image"):
                yield str(child.attrGet("href") or child.attrGet("src"))
