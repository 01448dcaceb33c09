"""`linekeeper demo` says so when the `linekeeper up` that it leads through ends."""

import asyncio
import os

import sandbox
from tests.cli.commands import CommandLine
from tests.forking import python


async def test_a_demo_that_waits_ends_with_a_next_step_when_up_has_ended(
    command: CommandLine,
) -> None:
    await asyncio.to_thread(command.migrated)
    async with sandbox.serving(sandbox.Settings(port=0, connections=2)) as makini:
        command.set(SANDBOX_PORT=makini.url.rsplit(":", 1)[1])
        demo = await python("linekeeper.cli", "demo", "--chapter", "login", env=os.environ)
        assert demo.stdout is not None
        said = ""
        while "waiting:" not in said:
            line = (await demo.stdout.readline()).decode()
            assert line, said
            said += line
    said += (await demo.stdout.read()).decode()
    assert await demo.wait() == 1, said
    assert "No sandbox answers" in said
    assert "Start `linekeeper up` in another terminal" in said
    assert "Traceback" not in said
