"""The wheels, built once, and the shell blocks of `docs/deploy.md`, which the tests here type."""

import asyncio
import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT


async def run(
    *words: str | Path, cwd: Path = ROOT, environment: dict[str, str] | None = None
) -> str:
    """Run a command that succeeds; what it said."""
    process = await asyncio.create_subprocess_exec(
        *map(str, words),
        cwd=cwd,
        env=os.environ if environment is None else environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, f"{' '.join(map(str, words))}:\n{said.decode()}"
    return said.decode()


def blocks(heading: str, places: Mapping[str, object] | None = None) -> list[str]:
    """The shell blocks of a section of `docs/deploy.md`, with other places in place of its own."""
    page = (ROOT / "docs/deploy.md").read_text()
    section = page.split(f"## {heading}\n")[1].split("\n## ")[0]
    found = re.findall(r"```sh\n(.*?)```", section, re.S)
    for place, other in (places or {}).items():
        assert any(place in block for block in found), place
        found = [block.replace(place, str(other)) for block in found]
    return found


def typed(heading: str, places: Mapping[str, object]) -> list[str]:
    """The same, line by line."""
    script = "".join(blocks(heading, places)).replace("\\\n", " ")
    return [line for line in script.splitlines() if line and not line.startswith("#")]


async def paste(block: str, cwd: Path, environment: Mapping[str, str], *first: Path) -> str:
    """Paste a block into a shell in `cwd`, where commands are looked for in `first` first."""
    path = os.pathsep.join([*map(str, first), environment["PATH"]])
    there = {**environment, "PATH": path}
    return await run("bash", "-euc", block, cwd=cwd, environment=there)


async def checkout(folder: Path) -> Path:
    """A copy of what is kept here, with the same virtual environment and with secrets beside."""
    known = await run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in known.split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return furnished(folder)


def furnished(folder: Path) -> Path:
    """A checkout with a virtual environment, and with what must get into no image."""
    (folder / ".venv").symlink_to(Path(sys.executable).parents[1])
    (folder / ".env").write_text("LINEKEEPER_ENCRYPTION_KEYS=secret")
    (folder / ".linekeeper").mkdir()
    (folder / ".linekeeper/encryption-keys").write_text("secret")
    return folder


@pytest.fixture(scope="session")
async def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheels of Linekeeper and of its sandbox."""
    here = await checkout(tmp_path_factory.mktemp("checkout"))
    await paste(blocks("From the wheel")[0], here, os.environ)
    return here / "dist"
