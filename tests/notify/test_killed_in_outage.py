"""A deliverer that dies between Slack's answer and its commit, while Slack counts as away."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete, select
from sqlmodel import SQLModel

from linekeeper.incidents.operate import mute
from linekeeper.store.tables import Notice, NoticeChannel, NoticeMessage, Outbox
from sandbox.slack import SlackFaults
from tests.notify.conftest import Desk
from tests.notify.test_outage import _ends, _minutes_pass, _own


@pytest.mark.parametrize("muted", [False, True])
async def test_what_a_deliverer_posted_that_died_before_its_commit_says_its_end(
    desk: Desk, muted: bool
) -> None:
    """Slack counted as away by then, and what it was about was over when it was claimed anew."""
    desk.slack.faults = SlackFaults(mode="500")
    names = ["Acme", "Bolt", "Cord"]
    incidents = [await desk.open(customer=name) for name in names]
    await _minutes_pass(desk, 1)
    before = await _state(desk)
    desk.slack.faults = SlackFaults()
    desk.ahead += timedelta(minutes=5)
    await desk.deliver()
    assert _own(desk) == names
    await _as_before_the_commit(desk, before)
    if muted:
        for incident in incidents:
            await mute(desk.store, incident, 1, by="ann", now=desk.now())
    await _ends(desk, incidents)
    await _minutes_pass(desk, 5)
    assert _own(desk) == names
    assert all("resolved" in message["text"] for message in desk.messages())
    assert len(desk.messages()) == len(names)


_KEPT = (Outbox, Notice, NoticeMessage, NoticeChannel)


async def _state(desk: Desk) -> dict[type[SQLModel], list[dict[str, Any]]]:
    async with desk.store.read() as session:
        return {
            table: [row.model_dump() for row in await session.scalars(select(table))]
            for table in _KEPT
        }


async def _as_before_the_commit(
    desk: Desk, before: dict[type[SQLModel], list[dict[str, Any]]]
) -> None:
    """What the database holds of a deliverer that was killed: its claim, which has run out."""
    async with desk.store.write() as session:
        for table in reversed(_KEPT):
            await session.execute(delete(table))
        for table, rows in before.items():
            for row in rows:
                claim = {"claimed_by": "dead/1", "attempts": row.get("attempts", 0) + 1}
                is_waiting = row.get("status") == "pending"
                session.add(table(**{**row, **(claim if is_waiting else {})}))
        await session.flush()
