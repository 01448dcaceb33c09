"""What the pages have a reader write is ignored by git: secrets are never one `git add .` away."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from tests.docs.test_commands import PAGES, ROOT, SHELL

WRITTEN = re.compile(
    r"\.[a-z][\w-]*"  # .env, .linekeeper-live
    r"|[\w-]+\.(?:age|backup|csv|db|env|jsonl?|key|md|pem|py|pyz|sqlite|svg|txt)"
)
"""A name that stands alone, of a kind that holds data."""


def git(*arguments: str) -> str:
    return subprocess.run(
        ("git", *arguments), cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout


def names(page: Path) -> Iterator[str]:
    """Every file in the working folder that the page's commands and running text name."""
    for token in MarkdownIt().parse(page.read_text()):
        texts = [child.content for child in token.children or [] if child.type == "code_inline"]
        if token.type == "fence" and token.info.split(" ")[0] in {*SHELL, "console"}:
            texts.append(token.content)
        for text in texts:
            for word in re.split(r"[\s\"'=`(),;:<>|]+", text):
                if WRITTEN.fullmatch(word.rstrip("/")):
                    yield word


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_has_one_write_is_ignored(page: Path) -> None:
    ours = {Path(path).name for path in git("ls-files").splitlines()}
    written = {name for name in names(page) if name not in ours}
    kept = {name for name in written if not _is_ignored(name)}
    assert not kept, f"{page.name} names what `git add .` would add: {sorted(kept)}"


def _is_ignored(name: str) -> bool:
    """Whether git leaves it out, as a file or as a folder."""
    return bool(git("check-ignore", name)) or bool(git("check-ignore", f"{name.rstrip('/')}/"))
