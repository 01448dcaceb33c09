"""A database that is gone is gone for all: that is one message, whoever says it."""

from datetime import timedelta

from pydantic import SecretStr

from linekeeper.clock import utcnow
from linekeeper.config import SlackConfig
from linekeeper.watch.database import say_directly
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
