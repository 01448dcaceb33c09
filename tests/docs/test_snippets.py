"""Every shell block of README and docs runs as written, in order, page by page.

One `linekeeper up` serves all pages. A page's blocks are one script in one bash, in a checkout with
an empty home. A comment above a block says what is otherwise:

- `<!-- foreground: … -->`: it is what serves the pages;
- `<!-- run by tests/…: reason -->`: that test runs it;
- `<!-- not run: reason -->`: it can't be here;
- `<!-- ends with N: reason -->`: it may end with that exit code.
"""

import asyncio
import re
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from tests.docs.test_commands import PAGES, ROOT, SHELL
from tests.e2e.conftest import House, free_ports, started

MARK = re.compile(r"<!-- (foreground|run by|not run|ends with) ?([^:]*): (.+?) -->")
MOST_NOT_RUN = 3
PORTS = {"prefect": 4200, "receiver": 8642, "sandbox": 8643}
TOOLS = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True, slots=True)
class Block:
    """A shell block of a page, and what is said of how it runs."""

    script: str
    mark: str = ""
    detail: str = ""


def blocks(page: Path) -> list[Block]:
    """The page's shell blocks, in order; of a console, what is typed after the prompt."""
    found, mark = [], None
    for token in MarkdownIt().parse(page.read_text()):
        if token.type == "html_block":
            mark = MARK.fullmatch(token.content.strip())
            assert mark or "<!--" not in token.content, f"{page.name}: {token.content}"
            continue
        kind = token.info.split(" ")[0] if token.type == "fence" else ""
        if kind in SHELL or kind == "console":
            script = token.content
            if kind == "console":
                typed = re.findall(r"^\$ ((?:.*\\\n)*.*)$", script, re.M)
                script = "\n".join(typed) + "\n"
            found.append(Block(script, *(mark.group(1, 2) if mark else ())))
        mark = None
    return found


HERE = [page for page in PAGES if any(b.mark in ("", "ends with") for b in blocks(page))]


def test_what_is_not_run_here_is_run_by_the_test_it_names() -> None:
    everything = [block for page in PAGES for block in blocks(page)]
    for block in everything:
        if block.mark == "run by":
            test = (ROOT / block.detail).read_text()
            called = re.findall(
                r"(?:linekeeper|samples/|prefect|make|python3|compose.yaml) ?([\w-]+)", block.script
            )
            assert called, block
            assert any(name in test for name in called), (block, "is not in that test")
    assert sum(block.mark == "not run" for block in everything) <= MOST_NOT_RUN


@pytest.fixture(scope="module")
async def served() -> AsyncIterator[House]:
    """What `make up` starts on the first page, for all of them."""
    with tempfile.TemporaryDirectory(prefix="linekeeper-docs-", ignore_cleanup_errors=True) as name:
        options = ("--sandbox", "--scenario", "quiet", "--no-schedules", "--connections", "6")
        async with started(Path(name) / ".linekeeper", free_ports(*PORTS), *options) as house:
            for _ in range(2):  # the first adopts what the sandbox lists
                await house.trigger("health-sweep")
            yield house


@pytest.mark.soak
@pytest.mark.e2e
@pytest.mark.parametrize("page", HERE, ids=lambda page: page.name)
async def test_a_page_does_what_it_says(served: House, page: Path, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    (tmp_path / "empty").mkdir()
    for entry in ROOT.iterdir():
        if entry.name not in (".git", ".linekeeper", ".env"):
            (checkout / entry.name).symlink_to(entry)
    (checkout / ".linekeeper").symlink_to(served.home)
    environment = {
        name: value
        for name, value in served.environment.items()
        if name in ("DO_NOT_TRACK",) or name.endswith("_PORT")
    }
    environment |= {
        "HOME": str(tmp_path / "empty"),
        "PATH": f"{ROOT / '.venv/bin'}:{TOOLS}",
        "COLUMNS": "80",
        "no_proxy": "*",
    }
    for number, block in enumerate(blocks(page)):
        if block.mark not in ("", "ends with"):
            continue
        script = block.script.replace("/tmp/linekeeper-practice", str(tmp_path / "practice"))
        for part, port in PORTS.items():
            script = script.replace(f":{port}", f":{served.ports[part]}")
        allowed = {0} | ({int(block.detail)} if block.mark == "ends with" else set())
        code, said = await _types(script, checkout, environment, strict=not block.mark)
        assert code in allowed, f"{page.name}, block {number + 1}:\n{block.script}\n{said}"
        assert "Traceback" not in said, said


async def _types(
    script: str, folder: Path, environment: dict[str, str], *, strict: bool
) -> tuple[int, str]:
    """Type a block into the page's shell; what is exported stays for the next block."""
    kept = folder.parent / "environment"
    before = f"source {kept}\n" if kept.exists() else ""
    keep = f"declare -p | grep -v -E '^declare -[a-z]*r' > {kept}\n"
    process = await asyncio.create_subprocess_exec(
        *(
            "bash",
            "-c",
            f"{before}{'set -e' * strict}\n{script}code=$?\n{keep}exit $code",
        ),
        cwd=folder,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()
