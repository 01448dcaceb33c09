"""A database that is gone is gone for all: that is one message, whoever says it."""

from datetime import timedelta
from pathlib import Path

from pydantic import SecretStr

from linekeeper.clock import utcnow
from linekeeper.config import SlackConfig
from linekeeper.watch.database import SaidGone, say_directly
from sandbox import Settings as SandboxSettings
from sandbox import serving


async def test_of_parts_without_the_database_the_first_speaks_the_others_in_its_thread() -> None:
    box = SandboxSettings(port=0, connections=0, records_per_connection=0)
    async with serving(box) as sandbox:
        slack = SlackConfig(
            bot_token=SecretStr(box.slack_token),
            channel="#linekeeper",
            api_url=f"{sandbox.url}/slack/api/",
        )
        began = utcnow() - timedelta(minutes=2)
        for what in ("gone", "back"):
            for part in ("receiver", "consumer", "other"):
                text = f"{what}, says the {part}"
                assert await say_directly(slack, text, key=f"database:{what}", since=began)
        said = [
            (message["text"], [reply["text"] for reply in message["replies"]])
            for message in sandbox.world.slack.snapshot()
        ]
    assert sorted(said) == [
        (
            f"{what}, says the receiver",
            [f"{what}, says the consumer", f"{what}, says the other"],
        )
        for what in ("back", "gone")
    ]


def test_what_was_said_is_noted_also_where_nobody_has_made_the_home(tmp_path: Path) -> None:
    said, since = SaidGone(tmp_path / "home", "vm/1/receiver"), utcnow()
    said.write(since)
    assert [left.read_text() for left in tmp_path.rglob("database-gone-*")] == [since.isoformat()]
    said.forget()
    assert not list(tmp_path.rglob("database-gone-*"))
