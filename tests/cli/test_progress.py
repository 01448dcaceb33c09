"""What `linekeeper up` says of a step is what came of it."""

import asyncio

import pytest

from linekeeper.cli.progress import StartProgress, worker_online

STATES = {"online": b'[{"status": "ONLINE"}]', "offline": b'[{"status": "OFFLINE"}]', "none": b"[]"}


@pytest.mark.parametrize("state", STATES)
async def test_a_start_says_that_runs_are_taken_only_where_a_worker_is_online(
    state: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        writer.write(head % len(STATES[state]) + STATES[state])
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        prefect = {"PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}
        taken = worker_online(prefect, "linekeeper", seconds=1)
        is_taken = await StartProgress().step("runs are taken", taken)
    said = capsys.readouterr().out
    assert is_taken is (state == "online")
    assert ("✓ runs are taken" in said) is is_taken
    assert ("not yet: runs are taken" in said) is not is_taken
