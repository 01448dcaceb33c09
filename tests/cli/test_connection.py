"""Connections by hand, against a sandbox."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlmodel import col

import sandbox
from linekeeper.config import AppConfig
from linekeeper.makini import MakiniClient
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Connection
from tests.cli.commands import CommandLine
from tests.cli.test_tokens import PUBLIC

Run = Callable[..., Awaitable[tuple[int, str]]]


@pytest.fixture
async def box() -> AsyncIterator[sandbox.Served]:
    async with sandbox.serving(sandbox.Settings(port=0, connections=3, seed=4)) as served:
        yield served


@pytest.fixture
def run(box: sandbox.Served, command: CommandLine) -> Run:
    """Run a command beside the sandbox; gives its exit code and all it said."""
    command.set(
        MAKINI_API_URL=box.url,
        MAKINI_CLIENT_ID=box.world.settings.client_id,
        MAKINI_CLIENT_SECRET=box.world.settings.client_secret,
    )
    command.migrated()

    async def running(*arguments: str, stdin: str = "") -> tuple[int, str]:
        said = await asyncio.to_thread(command, *arguments, stdin=stdin)
        return said.code, said.out + said.err

    return running


async def _token(box: sandbox.Served) -> tuple[str, str]:
    """A connection's key and a token of it."""
    app = AppConfig(
        mode="manage",
        api_url=box.url,
        client_id=box.world.settings.client_id,
        client_secret=box.world.settings.client_secret,  # type: ignore[arg-type]  # pydantic wraps it
    )
    async with MakiniClient(app) as makini:
        key = next(iter(box.world.connections))
        return key, (await makini.mint_token(key)).access_token


async def test_a_token_is_proven_before_it_is_stored_and_never_shown(
    box: sandbox.Served, run: Run
) -> None:
    key, token = await _token(box)
    pair = json.dumps({"access_token": token, "refresh_token": "r-secret", "expires_in": 300})
    code, said = await run("connection", "add", "--key", key, "--tokens-file", "-", stdin=pair)
    assert code == 0, said
    assert said.endswith("added, the token works\n")
    code, said = await run("connection", "show", key, "--json")
    shown = json.loads(said)
    assert (shown["makini_key"], shown["has_token"]) == (key, True)
    assert token not in said
    _, said = await run("connection", "list", "--json")
    assert [row["label"] for row in json.loads(said)] == [shown["label"]]
    _, said = await run("connection", "add", "--key", key, "--tokens-file", "-", stdin=pair)
    assert said.endswith("new tokens stored, the token works\n")
    code, said = await run("connection", "show", shown["label"].lower())
    assert code == 0
    assert key in said


async def test_a_token_of_another_connection_is_refused(box: sandbox.Served, run: Run) -> None:
    key, token = await _token(box)
    pair = json.dumps({"access_token": token})
    code, said = await run("connection", "add", "--key", "other", "--tokens-file", "-", stdin=pair)
    assert code == 1
    assert f"the token belongs to connection {key}" in said
    _, said = await run("connection", "list")
    assert said == "no connection\n"


@pytest.mark.parametrize(
    ("stdin", "said"),
    [
        ("", "holds no tokens"),
        ('{"access_token": ""}', "holds no tokens"),
        ('{"access_token": "two words"}', "holds no tokens"),
        ('{"access_token": "t-wrong"}', "Makini refused the login"),
    ],
)
async def test_a_useless_token_is_one_line(run: Run, stdin: str, said: str) -> None:
    code, output = await run("connection", "add", "--key", "1", "--tokens-file", "-", stdin=stdin)
    assert (code, output.count("\n")) == (1, 1)
    assert said in output


async def test_an_unknown_name_offers_the_nearest(box: sandbox.Served, run: Run) -> None:
    key, token = await _token(box)
    await run(
        *("connection", "add", "--key", key, "--name", "Acme - SAP ECC", "--no-check"),
        *("--tokens-file", "-"),
        stdin=json.dumps({"access_token": token}),
    )
    code, said = await run("connection", "show", "Acmee")
    assert code == 1
    assert "The nearest: Acme" in said


async def test_a_health_that_there_is_not_is_refused_and_not_said_to_be_nobodys(run: Run) -> None:
    code, said = await run("connection", "list", "--health", "unreachble")
    assert code == 1
    assert "there is no health 'unreachble'; there are healthy, degraded, unreachable" in said
    assert await run("connection", "list", "--health", "unreachable") == (0, "no connection\n")


async def test_tokens_that_are_given_by_hand_are_in_the_audit_and_renewed_from_then_on(
    box: sandbox.Served, run: Run, tmp_path: Path
) -> None:
    """Where the tokens of before had been given back, nobody renewed the new ones."""
    key, token = await _token(box)
    pair = json.dumps({"access_token": token, "refresh_token": "r-secret", "expires_in": 300})
    add = ("connection", "add", "--key", key, "--tokens-file", "-")
    await run(*add, stdin=pair)
    gone = ("tokens", "export", "--to", PUBLIC, "--out", str(tmp_path / "t"))
    code, said = await run(*gone, "--confirm", "default")
    assert code == 0, said
    code, said = await run(*add, stdin=pair)
    assert (code, said.endswith("new tokens stored, the token works\n")) == (0, True), said
    _, said = await run("audit", "--json")
    actions = [(entry["action"], entry["detail"]) for entry in reversed(json.loads(said))]
    assert actions == [
        ("connection.added", {"key": key, "verified": True}),
        ("token.exported", {"before": "owned", "to": PUBLIC}),
        ("connection.token_given", {"key": key, "verified": True}),
    ]
    async with Runtime.open() as rt, rt.store.read() as session:
        assert list(await session.scalars(select(col(Connection.custody)))) == ["owned"]


async def test_a_key_and_a_name_that_are_given_by_hand_are_kept_as_those_of_makinis_list_are(
    box: sandbox.Served, run: Run
) -> None:
    pair = json.dumps({"access_token": "a", "refresh_token": "r", "expires_in": 300})
    add = ("connection", "add", "--no-check", "--tokens-file", "-")
    code, said = await run(*add, "--key", " 10\u202e42 ", "--name", "Acme\n - SAP", stdin=pair)
    assert code == 0, said
    code, said = await run(*add, "--key", "k" * 501, stdin=pair)
    assert (code, "over 500 characters" in said) == (1, True)
    _, said = await run("connection", "list", "--json")
    assert [(row["makini_key"], row["name"]) for row in json.loads(said)] == [
        ("10 42", "Acme  - SAP")
    ]
