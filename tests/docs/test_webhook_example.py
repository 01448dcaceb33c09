"""The signed webhook that docs/webhooks.md sends by hand, with a secret and a key of our own.

As it stands there, beside a running sandbox, it is sent by `tests/docs/test_snippets.py`.
"""

import asyncio
import shutil
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.migrate import migrate
from tests.databases import KEY
from tests.docs.test_commands import ROOT
from tests.receiver.conftest import SECRET
from tests.receiver.processes import part


def example() -> str:
    """The shell block of the page that calls curl."""
    tokens = MarkdownIt().parse((ROOT / "docs/webhooks.md").read_text())
    [block] = [
        token.content for token in tokens if token.type == "fence" and "curl" in token.content
    ]
    return block


@pytest.mark.skipif(
    not (shutil.which("curl") and shutil.which("openssl")), reason="needs curl and openssl"
)
async def test_the_example_is_accepted_once_and_refused_with_another_secret(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", encryption_keys=(KEY,))
    async with Store.open(settings) as store:
        await migrate(store)

    async def send(script: str, secret: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *("bash", "-euo", "pipefail", "-c", script),
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "SECRET": secret, "no_proxy": "*"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        assert process.returncode == 0, said.decode()
        return said.decode()

    async with part("receiver", settings, tmp_path / "log") as receiver:
        lines = example().splitlines()
        assert [line.partition("=")[0] for line in lines[:2]] == ["SECRET", "KEY"]
        script = "\n".join(["KEY=k1", *lines[2:]])
        assert "localhost:8642" in script
        script = script.replace("localhost:8642", receiver.url.removeprefix("http://"))
        first = await send(script, SECRET)
        assert "200 OK" in first
        assert '"accepted"' in first
        assert '"duplicate"' in await send(script, SECRET)
        assert "401" in await send(script, "another")
