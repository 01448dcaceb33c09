"""`linekeeper mode`: ten connections in, and out again."""

import asyncio
import json

import sandbox
from tests.cli.commands import CommandLine


async def test_some_are_managed_and_come_back_with_their_tokens(command: CommandLine) -> None:
    async with sandbox.serving(sandbox.Settings(port=0, connections=3)) as makini:
        command.set(
            MAKINI_API_URL=makini.url,
            MAKINI_CLIENT_ID="sandbox-client",
            MAKINI_CLIENT_SECRET="sandbox-secret",
        )

        async def run(*words: str, stdin: str = "", code: int = 0) -> str:
            said = await asyncio.to_thread(command, *words, stdin=stdin)
            assert said.code == code, said.err
            return str(said.err if code else said.out)

        await asyncio.to_thread(command.migrated)
        first, *_ = makini.world.connections.values()
        pair = makini.world.tokens.pair(first)
        whole = {"access_token": pair.access, "refresh_token": pair.refresh}
        lent = {"connection": first.key, "access_token": pair.access}
        await run(
            *("connection", "add", "--key", first.key, "--tokens-file", "-", "--no-check"),
            stdin=json.dumps(whole),
        )
        one = ("--connection", first.key)
        would = await run("mode", "set", "manage", *one, "--dry-run")
        assert "1 would go from observe to manage" in would
        assert "0 people would be notified" in would
        assert "Nothing was changed" in would
        assert "by the settings of app default" in await run("mode", "show", first.key)
        app = ("--app", "default")
        await run("mode", "set", *app, "--notify-customers")
        assert "app default: customers are notified where managed" in await run("mode", "show")
        quiet = await run("mode", "show", first.key)
        assert "Its customers are not notified while it is observed" in quiet
        await run("mode", "clear", *app)
        assert "1 go from observe to manage" in await run("mode", "set", "manage", *one)
        said = await run("mode", "set", *one, "--notify-customers")
        assert "1 have customers who are notified from then on: " in said
        assert "1 of these have no confirmed contact, so nobody is notified yet: " in said
        assert "0 people are notified at once, of a login that is lost already." in said
        shown = await run("mode", "show")
        assert "app default, by its settings: observe" in shown
        assert "manage, customers are notified (set by" in shown
        why = await run("mode", "show", first.key)
        assert "manage, by the rule for" in why
        refused = await run("mode", "set", "observe", *one, code=1)
        assert "linekeeper tokens export" in refused
        assert "nobody would any more" in refused
        key = "age1834kjnelledpe8j3jwapsrzd7cv2v2ery49m964p9fgn5g5x259saepdwa"
        given = await run(
            "tokens",
            "export",
            *one,
            "--to",
            key,
            "--out",
            str(command.home / "t"),
            "--confirm",
            "default",
        )
        assert "1 token in" in given
        assert makini.world.tokens.owner(pair.access) is first
        assert "1 go from manage to observe" in await run("mode", "clear", *one)
        assert "observe, by the settings" in await run("mode", "show", first.key)
        taken = await run("tokens", "import", "-", stdin=json.dumps({"tokens": [lent]}))
        assert "1 token imported" in taken
        assert "mode.set" in await run("audit")


def test_what_cannot_be_set_says_what_to_give(command: CommandLine) -> None:
    command.migrated()
    for words, expected in (
        (("mode", "set", "manage"), "say for what"),
        (("mode", "set", "--connection", "x"), "say observe or manage"),
        (("mode", "set", "manage", "--tag", "x"), "no connection has the tag 'x'"),
        (("mode", "set", "manage", "--app", "x"), "there is no Makini app 'x'"),
        (("mode", "set", "manage", "--customer", "x"), "no customer is called 'x'"),
    ):
        said = command(*words)
        assert said.code == 1
        assert expected in said.err
