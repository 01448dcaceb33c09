"""`linekeeper receiver --workers 2`: one port, figures added up, one that dies is replaced."""

import asyncio
import json
import re
from pathlib import Path

import httpx
import psutil
import pytest

from linekeeper.settings import Settings
from tests.receiver.conftest import signature
from tests.receiver.processes import part


async def test_a_worker_that_is_killed_is_replaced_and_the_others_go_on(
    settings: Settings, tmp_path: Path
) -> None:
    log = tmp_path / "receiver.log"
    async with part("receiver", settings, log, arguments=("--workers", "2")) as receiver:

        async def post(number: int) -> bool:
            body = json.dumps({"id": f"w{number}"}).encode()
            headers = {"x-webhook-signature": signature(body)}
            try:
                async with httpx.AsyncClient(base_url=receiver.url, timeout=15) as http:
                    answer = await http.post("/webhooks/default", content=body, headers=headers)
            except httpx.HTTPError:
                return False
            return answer.status_code == 200

        async def two() -> list[psutil.Process]:
            async with asyncio.timeout(60):
                while True:
                    found = [
                        one
                        for one in psutil.Process(receiver.process.pid).children()
                        if "linekeeper.receiver" in " ".join(one.cmdline())
                    ]
                    if len(found) == 2:
                        return found
                    await asyncio.sleep(0.1)

        async with asyncio.timeout(60):
            while not await post(0):
                await asyncio.sleep(0.1)
        first, _ = await two()
        first.kill()
        taken = await asyncio.gather(*(post(number) for number in range(1, 41)))
        again = [number for number, ok in enumerate(taken, 1) if not ok]
        assert all(await asyncio.gather(*(post(number) for number in again)))
        assert first.pid not in {one.pid for one in await two()}
        async with httpx.AsyncClient(base_url=receiver.url, timeout=15) as http:
            metrics = (await http.get("/metrics")).text
        counted = re.findall(
            r'linekeeper_deliveries_total{answer="accepted",app="default"} (\S+)', metrics
        )
        assert float(counted[0]) >= 41 - len(again), "of all workers, also of one that died"
        workers = await two()
        receiver.process.terminate()
        async with asyncio.timeout(15):
            await receiver.process.wait()
        assert receiver.process.returncode == 0
        assert not any(trouble.is_running() for trouble in workers)


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_receiver_whose_database_cannot_be_used_says_why_and_ends(
    settings: Settings, tmp_path: Path, workers: str
) -> None:
    """With several workers it said that it was ready, while these ended once a second for good."""
    empty = tmp_path / "empty.db"
    empty.touch()
    other = {"LINEKEEPER_DATABASE_URL": f"sqlite+aiosqlite:///{empty}"}
    arguments = ("--workers", workers)
    with pytest.raises(RuntimeError, match="run `linekeeper migrate`"):
        async with part("receiver", settings, tmp_path / "log", extra=other, arguments=arguments):
            pass
