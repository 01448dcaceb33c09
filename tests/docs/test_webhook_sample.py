"""`docs/samples/webhook_receiver.py` keeps what Linekeeper signed, once, and nothing else."""

import asyncio
import os
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from linekeeper.clock import utcnow
from linekeeper.outbox.forward import signed_headers
from tests.receiver.processes import free_port

SAMPLE = Path(__file__).parents[2] / "docs/samples/webhook_receiver.py"
SECRET, OTHER = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    """Where the sample listens; it keeps what it gets in `received.db`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(SAMPLE), str(free_port()), str(tmp_path / "received.db")),
        env={**os.environ, "FORWARD_SECRET": SECRET},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    yield (await process.stdout.readline()).decode().split()[-1]
    process.terminate()
    await process.communicate()


async def test_it_keeps_what_is_genuine_once_and_refuses_the_rest(url: str, tmp_path: Path) -> None:
    async def sent(identity: str, body: bytes, secret: str = SECRET) -> int:
        headers = signed_headers(identity, body, secret, now=utcnow())
        async with httpx.AsyncClient() as http:
            return (await http.post(url, content=body, headers=headers)).status_code

    assert [await sent("one", b'{"n": 1}') for _ in range(2)] == [200, 200]
    assert await sent("two", b"{}", OTHER) == 401
    assert await sent("three", b'{"n": 3}') == 200
    with closing(sqlite3.connect(tmp_path / "received.db")) as database:
        kept = database.execute("SELECT id, body FROM received ORDER BY rowid").fetchall()
    assert kept == [("one", b'{"n": 1}'), ("three", b'{"n": 3}')]
