"""The wheels, built once, and the shell blocks of `docs/deploy.md`, which the tests here type."""

import asyncio
import os
import re
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


def typed(heading: str, places: Mapping[str, object]) -> list[str]:
    """The shell lines of a section of `docs/deploy.md`, with other places in place of its own."""
    page = (ROOT / "docs/deploy.md").read_text()
    section = page.split(f"## {heading}\n")[1].split("\n## ")[0]
    script = "\n".join(re.findall(r"```sh\n(.*?)```", section, re.S)).replace("\\\n", " ")
    for place, other in places.items():
        assert place in script, (place, script)
        script = script.replace(place, str(other))
    return [line for line in script.splitlines() if line and not line.startswith("#")]


@pytest.fixture(scope="session")
async def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheels of Linekeeper and of its sandbox."""
    folder = tmp_path_factory.mktemp("dist")
    uv = Path(sys.executable).with_name("uv")
    for project in (ROOT, ROOT / "sandbox"):
        await run(uv, "build", "-q", "--wheel", "-o", folder, project)
    return folder
