"""Two deliverers at once, killed at seeded moments, while Slack answers as it likes."""

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import pytest
from sqlalchemy import select

from linekeeper.config import AlertPolicy
from linekeeper.outbox.queue import ENDED
from linekeeper.settings import Settings
from linekeeper.store.tables import Outbox
from sandbox.slack import SlackFaults
from tests.databases import KEY
from tests.forking import python
from tests.notify.conftest import Desk

INCIDENTS = 16
CAP = 6


@asynccontextmanager
async def deliverer(
    desk: Desk, settings: Settings, owner: str, ahead: float
) -> AsyncIterator[None]:
    """One that works in the block and is killed at its end."""
    slack = desk.configuration.slack
    assert slack is not None
    given = {
        "home": str(settings.home),
        "database_url": settings.resolved_database_url,
        "key": KEY.get_secret_value(),
        "token": slack.bot_token.get_secret_value(),
        "api_url": slack.api_url,
        "owner": owner,
        "ahead": str(ahead),
    }
    process = await python("tests.notify.deliverer", env=os.environ, has_stdin=True)
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin as given_to:
        try:
            given_to.write(json.dumps(given).encode() + b"\n")
        except BrokenPipeError:
            said, _ = await process.communicate()
            raise AssertionError(f"it ended ({process.returncode}): {said.decode()}") from None
        await process.stdout.readline()
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


LONG = (pytest.mark.soak, pytest.mark.timeout(1_800))


@pytest.mark.parametrize("kills", [2, pytest.param(25, marks=LONG)])
async def test_two_deliverers_killed_anywhere_say_everything_once(
    desk: Desk, settings: Settings, kills: int
) -> None:
    chance = random.Random(kills)
    desk.configuration = desk.configuration.model_copy(
        update={"alerts": AlertPolicy(cap_per_hour=CAP)}
    )
    for n in range(INCIDENTS):
        await desk.open(customer=f"Customer {n:02}")
    modes = ["429", "500", "lost", "timeout", "html", "internal_error"]
    for number in range(kills):
        mode = chance.choice(modes)
        desk.slack.faults = SlackFaults(mode=mode, share=0.3, timeout_seconds=1.2)
        async with (
            deliverer(desk, settings, f"a{number}", number * 12),
            deliverer(desk, settings, f"b{number}", number * 12),
        ):
            await asyncio.sleep(chance.uniform(0.05, 0.9))
    desk.slack.faults = SlackFaults()
    for number in range(kills, kills + 6):
        desk.ahead = timedelta(minutes=12 * number)
        await desk.deliver(limit=500)
    messages = desk.messages()
    said = str(messages)
    assert all(f"Customer {n:02}" in said for n in range(INCIDENTS))
    alone = [m for m in messages if "in one message" not in m["text"]]
    names = [m["text"].split(" · ")[0] for m in alone]
    assert len(names) == len(set(names))
    assert all(len({r["text"] for r in m["replies"]}) == len(m["replies"]) for m in messages)
    assert len(messages) <= CAP, "\n".join(m["text"] for m in messages)
    async with desk.store.read() as session:
        rows = await session.scalars(select(Outbox).where(Outbox.channel == "slack"))
        assert {row.status for row in rows} <= set(ENDED)
