"""Many messages that are due at once, with several Slack channels."""

from typing import Any

from sqlalchemy import event

from linekeeper.incidents.announce import said_about
from linekeeper.notify.slack_channel import Pacer
from linekeeper.notify.view import Links
from linekeeper.outbox.queue import Message, enqueue
from linekeeper.outbox.senders.slack import SlackSender
from linekeeper.store.tables import Customer
from tests.notify.conftest import Desk
from tests.notify.test_slack_channels import _channel, _of, _with

MANY = 30


async def test_each_look_asks_for_all_that_are_due_together(desk: Desk) -> None:
    """As where the logins of a whole fleet end in one week."""
    _with(desk, petra=_channel(desk, "#ops", owners="Petra"))
    async with desk.store.write() as session:
        customers = [Customer(name=f"C {n}", slug=f"c-{n}", owner="Petra") for n in range(MANY)]
        session.add_all(customers)
        await session.flush()
        messages = [
            Message(
                "slack",
                f"slack:say:{each.slug}",
                {"do": "say", "text": each.name, **said_about("login", customer_id=each.id)},
                kind="say",
            )
            for each in customers
        ]
        await enqueue(desk.store, session, messages, now=desk.now())
    sender = SlackSender(desk.store, clock=desk.now, pacer=Pacer(0))
    await sender.evaluate(desk.configuration, Links())
    said: list[str] = []

    def note(_a: Any, _b: Any, statement: str, *_: Any) -> None:
        said.append(statement)

    engine = desk.store.engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        await sender.partitions()
    finally:
        event.remove(engine, "before_cursor_execute", note)
    assert len(said) < 10
    await desk.deliver(limit=MANY)
    assert len(_of(desk, "ops")) == MANY
