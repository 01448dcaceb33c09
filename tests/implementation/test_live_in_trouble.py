"""Going live with a system that doesn't work: whoever decides it is told, and so is the channel."""

from sqlmodel import col, update

from linekeeper.implementation.answer import ask
from linekeeper.store.tables import Connection
from tests.implementation.conftest import Office
from tests.implementation.test_service import before_live


async def test_the_form_of_the_go_live_and_its_message_say_which_system_does_not_work(
    office: Office,
):
    started = await office.start()
    connection = await before_live(office, started.progress)
    row = await office.gate(started.progress, "go-live")
    assert (await ask(office.store, row.id, run_id=None)).troubles == ()
    async with office.store.write() as session:
        await session.execute(
            update(Connection)
            .where(col(Connection.id) == connection)
            .values(health="reauthorization_required", health_since=office.now)
        )
    [trouble] = (await ask(office.store, row.id, run_id=None)).troubles
    assert trouble.system == "SAP ECC"
    await office.says(started.progress, "go-live")
    said = [message.payload["text"] for message in await office.outbox("slack")]
    assert " is live" in said[-1]
    assert "In trouble: SAP ECC (Reauthorization required)" in said[-1]
