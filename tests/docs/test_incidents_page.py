"""docs/incidents.md has a row for each kind of incident, as the registry says it."""

import re
from pathlib import Path

import pytest

from linekeeper.incidents.kinds import KINDS
from linekeeper.incidents.registry import Kind

DOCS = Path(__file__).resolve().parents[2] / "docs"
_MATTERS = {
    "loss": "normal; critical for a critical customer, or where it concerns several connections",
    "normal": "normal",
    "minor": "low",
}


def row(name: str, kind: Kind) -> str:
    """What the page's table has of a kind."""
    said = " ".join(part for part in (kind.meaning, kind.ahead) if part)
    who = "you; the customer by mail" if kind.mails_customer else "you"
    page = kind.page.split("#")[0].removesuffix(".md")
    return f"| `{name}` | {said} | {_MATTERS[kind.weight]} | {who} | [{page}]({kind.page}) |"


def test_the_page_says_of_each_kind_what_the_registry_says() -> None:
    page = (DOCS / "incidents.md").read_text()
    rows = sorted(row(name, kind) for name, kind in KINDS.items())
    found = sorted(re.findall(r"^\| `.*$", page, re.MULTILINE))
    assert found == rows, "\n".join(["the table should be:", *rows])


@pytest.mark.parametrize("name", sorted(KINDS))
def test_the_page_of_a_kind_is_there(name: str) -> None:
    page, _, anchor = KINDS[name].page.partition("#")
    assert (DOCS / page).is_file()
    headings = re.findall(r"^#+ (.+)$", (DOCS / page).read_text(), re.MULTILINE)
    assert not anchor or anchor in {_anchor(heading) for heading in headings}


def _anchor(heading: str) -> str:
    words = re.sub(r"[^\w\s-]", "", heading.lower())
    return re.sub(r"[\s]+", "-", words.strip())
