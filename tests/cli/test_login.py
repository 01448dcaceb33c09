"""connection link, login and disconnect, and rotate-keys, as they are typed."""

import json
from pathlib import Path

from aiohttp import web

import sandbox
from tests.cli.commands import CommandLine
from tests.cli.test_connection import Run, box, run
from tests.self_signed import self_signed

__all__ = ["box", "run"]  # fixtures


async def test_a_connection_is_linked_given_a_login_and_disconnected_by_hand(
    box: sandbox.Served, run: Run, command: CommandLine
) -> None:
    command.set(MAKINI_MODE="manage")
    connection, other = list(box.world.connections.values())[:2]
    pair = box.world.tokens.pair(connection)
    given = {"access_token": pair.access, "refresh_token": pair.refresh, "expires_in": 2_592_000}
    added = await run(
        *("connection", "add", "--key", connection.key, "--tokens-file", "-"),
        stdin=json.dumps(given),
    )
    assert added[0] == 0, added
    code, said = await run("connection", "link", connection.key)
    assert code == 0, said
    url = said.splitlines()[-1]
    assert "/connect/" in url
    code, said = await run("connection", "link", connection.key)
    assert code == 0, said
    assert said.splitlines()[-1] == url
    assert "nobody has logged in by it yet" in said

    theirs = box.world.tokens.pair(other)
    wrong = {"access_token": theirs.access, "refresh_token": theirs.refresh}
    code, said = await run(
        *("connection", "login", connection.key, "--file", "-"), stdin=json.dumps(wrong)
    )
    assert code == 1
    assert "belongs to" in said
    assert theirs.access not in said
    code, said = await run(
        *("connection", "login", connection.key, "--file", "-"), stdin=json.dumps(given)
    )
    assert code == 0, said
    assert "the login works and is stored" in said

    code, said = await run("connection", "disconnect", connection.key)
    assert code == 0, said
    assert f"--confirm {connection.key}" in said
    assert (await run("connection", "disconnect", connection.key, "--confirm", "yes"))[0] == 1
    assert connection.key in box.world.connections
    code, said = await run("connection", "disconnect", connection.key, "--confirm", connection.key)
    assert code == 0, said
    assert connection.key not in box.world.connections

    code, said = await run("rotate-keys")
    assert code == 0, said
    assert "0 encrypted anew" in said  # there is one key, and everything is under it
    assert "under the first key" in said


async def test_a_login_says_that_makinis_certificate_is_why_it_could_not_be_asked(
    box: sandbox.Served, run: Run, command: CommandLine, tmp_path: Path
) -> None:
    command.set(MAKINI_MODE="manage")
    connection = next(iter(box.world.connections.values()))
    pair = box.world.tokens.pair(connection)
    given = {"access_token": pair.access, "refresh_token": pair.refresh, "expires_in": 2_592_000}
    added = await run(
        *("connection", "add", "--key", connection.key, "--tokens-file", "-"),
        stdin=json.dumps(given),
    )
    assert added[0] == 0, added
    runner = web.AppRunner(web.Application())
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self_signed(tmp_path))
    await site.start()
    command.set(MAKINI_API_URL=f"https://127.0.0.1:{runner.addresses[0][1]}")
    try:
        code, said = await run(
            *("connection", "login", connection.key, "--file", "-"), stdin="code-of-makini-link"
        )
    finally:
        await runner.cleanup()
    assert code == 1
    assert "Makini could not be asked (" in said
    assert "its certificate is not accepted" in said
