"""A deliverer in a process of its own, to be killed: `python -m tests.notify.deliverer`.

Takes on its standard input, as JSON, the settings and how far its clock is ahead.
"""

import asyncio
import json
import sys
from datetime import timedelta
from pathlib import Path

from pydantic import SecretStr

from linekeeper.clock import utcnow
from linekeeper.config import AlertPolicy, Configuration, SlackConfig
from linekeeper.notify import slack_channel as slack_module
from linekeeper.notify.slack_channel import Pacer
from linekeeper.outbox.senders.slack import deliver_due
from linekeeper.settings import Settings
from linekeeper.store import Store


async def deliver(given: dict[str, str]) -> None:
    """Deliver until killed."""
    ahead = timedelta(minutes=float(given["ahead"]))
    settings = Settings(
        home=Path(given["home"]),
        encryption_keys=(SecretStr(given["key"]),),
        database_url=SecretStr(given["database_url"]),
        _env_file=None,
    )
    slack_module.TIMEOUT_SECONDS = 1
    slack = SlackConfig(
        bot_token=SecretStr(given["token"]), channel="#linekeeper", api_url=given["api_url"]
    )
    configuration = Configuration(slack=slack, alerts=AlertPolicy(cap_per_hour=6))
    async with Store.open(settings) as store:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            await deliver_due(
                store,
                configuration,
                given["owner"],
                clock=lambda: utcnow() + ahead,
                pacer=Pacer(0.02),
            )
            await asyncio.sleep(0.02)


if __name__ == "__main__":
    asyncio.run(deliver(json.loads(sys.stdin.readline())))
