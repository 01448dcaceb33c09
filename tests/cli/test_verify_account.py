"""`linekeeper verify-account`, and the same as a deployment's form."""

import asyncio
import json

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

import sandbox
from tests.cli.commands import CommandLine


@pytest.fixture
async def with_makini(command: CommandLine) -> CommandLine:
    await asyncio.to_thread(command.migrated)
    return command


def asks(command: CommandLine, makini: sandbox.Served) -> None:
    """The command asks this Makini, with the login that it has."""
    command.set(
        MAKINI_API_URL=makini.url,
        MAKINI_CLIENT_ID="sandbox-client",
        MAKINI_CLIENT_SECRET="sandbox-secret",
    )


async def test_it_answers_every_question_and_goes_on_where_it_stopped(
    with_makini: CommandLine,
) -> None:
    command = with_makini
    async with sandbox.serving(sandbox.Settings(port=0, connections=5)) as makini:
        asks(command, makini)
        short = await asyncio.to_thread(command, "verify-account", "--calls", "3", "--json")
        said = await asyncio.to_thread(command, "verify-account", "--json")
        shown = await asyncio.to_thread(command, "verify-account")
        refused = await asyncio.to_thread(command, "verify-account", "--write-on", "4711")
    assert short.code == said.code == shown.code == 0
    assert not json.loads(short.out)["complete"]
    found = json.loads(said.out)
    assert found["complete"]
    assert found["settings"]["LINEKEEPER_MAKINI_PAGING"] == "page"
    verdicts = {answer["question"]: answer["verdict"] for answer in found["answers"]}
    assert verdicts["list-total"] == "seen so"
    assert verdicts["event-names"] == "not seen"
    assert "LINEKEEPER_MAKINI_PAGING=page" in shown.out
    assert refused.code == 1
    assert "second time" in refused.err


async def test_an_account_that_can_not_be_reached_is_one_line(with_makini: CommandLine) -> None:
    command = with_makini
    command.set(
        MAKINI_API_URL="http://127.0.0.1:1", MAKINI_CLIENT_ID="a", MAKINI_CLIENT_SECRET="hunter2"
    )
    said = await asyncio.to_thread(command, "verify-account", "--json")
    assert said.code == 1
    assert said.err.startswith("1 of 7")
    assert "Makini could not be reached" in said.err
    assert "hunter2" not in said.err


async def test_a_list_that_is_not_given_is_said_and_ends_with_1(
    with_makini: CommandLine,
) -> None:
    command = with_makini
    async with sandbox.serving(sandbox.Settings(port=0, connections=5)) as makini:
        asks(command, makini)
        makini.world.faults.admin_list = "500"
        said = await asyncio.to_thread(command, "verify-account", "--json")
    assert said.code == 1
    assert "asked again by the next run" in said.err
    assert "the whole list: Makini answered 500" in json.loads(said.out)["unanswered"]


async def test_an_address_that_is_no_makini_is_not_called_a_refused_login(
    with_makini: CommandLine,
) -> None:
    command = with_makini

    async def redirect(_: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "https://login.example/"})

    app = web.Application()
    app.router.add_post("/link/token", redirect)
    async with TestServer(app) as server:
        command.set(
            MAKINI_API_URL=str(server.make_url("")).rstrip("/"),
            MAKINI_CLIENT_ID="a",
            MAKINI_CLIENT_SECRET="hunter2",
        )
        said = await asyncio.to_thread(command, "verify-account")
    assert said.code == 1
    assert "Check api_url of app default" in said.err
