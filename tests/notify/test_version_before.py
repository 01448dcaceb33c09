"""Messages that wait while Linekeeper is upgraded are in words of the version before."""

from typing import Any

from sqlalchemy import select, update
from sqlmodel import col

from linekeeper.notify.evaluate import evaluate_alerts
from linekeeper.store import Store
from linekeeper.store.tables import Outbox
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
