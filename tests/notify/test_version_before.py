"""Messages that wait while Linekeeper is upgraded are in words of the version before."""

from datetime import timedelta
from typing import Any

from sqlalchemy import select, update
from sqlmodel import col

from linekeeper.notify.evaluate import evaluate_alerts
from linekeeper.store import Store
from linekeeper.store.tables import Notice, Outbox
from tests.notify.conftest import Desk
from tests.notify.test_evaluate import with_policy

WORDS = {"timeline": "diary", "group": "fold"}


def as_before(payload: dict[str, Any]) -> dict[str, Any]:
    """`payload` as version 0.1 wrote it."""
    renamed = {"fold" if name == "group_key" else name: payload[name] for name in payload}
    return renamed | {"do": WORDS.get(payload["do"], payload["do"])}


async def rewrite(store: Store) -> set[str]:
    """Have all that waits for Slack be of the version before; returns what it asks for."""
    asked: set[str] = set()
    async with store.write() as session:
        rows = await session.execute(
            select(col(Outbox.id), col(Outbox.payload)).where(col(Outbox.channel) == "slack")
        )
        for identifier, payload in rows.all():
            old = as_before(payload)
            asked.add(old["do"])
            await session.execute(
                update(Outbox).where(col(Outbox.id) == identifier).values(payload=old)
            )
    return asked


async def test_an_entry_of_the_timeline_is_written(desk: Desk) -> None:
    incident_id = await desk.open()
    await desk.deliver()
    await desk.change(incident_id, "changed", "One more connection")
    assert await rewrite(desk.store) >= {"show", "diary"}
    await desk.deliver()
    [message] = desk.messages()
    assert "One more connection" in message["replies"][-1]["text"]


async def test_several_incidents_share_their_message(desk: Desk) -> None:
    with_policy(desk, cap_per_hour=1)
    for number in range(3):
        await desk.open(customer=f"Customer {number}")
    await evaluate_alerts(desk.store, desk.configuration, now=desk.now())
    assert "fold" in await rewrite(desk.store)
    await desk.deliver()
    await desk.deliver()
    [message] = desk.messages()
    assert "3 incidents" in message["text"]


async def test_reminders_are_counted(desk: Desk) -> None:
    incident_id = await desk.open()
    for number in range(4):
        desk.ahead = timedelta(days=2 * number)
        await evaluate_alerts(desk.store, desk.configuration, now=desk.now())
        async with desk.store.write() as session:
            which = col(Notice.incident_id) == incident_id, col(Notice.step).contains("reminder")
            names = await session.scalars(select(col(Notice.step)).where(*which))
            assert {*names} == {f"reminder:{each + 1}" for each in range(number)}
            await session.execute(update(Notice).values(step_kind=None, number=None))
            for row in await session.scalars(select(Outbox)):
                typed = {"step_kind", "number"}
                row.payload = {name: row.payload[name] for name in row.payload if name not in typed}
        await desk.deliver()
    [message] = desk.messages()
    assert [f"Reminder {number}:" in str(message["replies"]) for number in (1, 2, 3, 4)] == [
        *(True, True, True, False)
    ]
