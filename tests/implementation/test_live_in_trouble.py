"""Going live with a system that doesn't work: whoever decides it is told, and so is the channel."""

from sqlmodel import col, update

from linekeeper.implementation.answer import ask
from linekeeper.implementation.report import implementation_markdown
from linekeeper.notify.view import Links
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


async def test_the_page_says_whether_a_system_in_trouble_is_alerted_of_before_the_go_live(
    office: Office,
):
    first = await office.start()
    old = await before_live(office, first.progress)
    await office.update(first.progress, "abandon", reason="they begin again")
    office.later(hours=1)
    second = await office.start(systems=["SAP ECC", "UpKeep"])
    new = await office.connects("Acme", "UpKeep")
    progress = await office.advance(second.progress)
    assert [system.connection_id for system in progress.standing.systems] == [old, new]
    async with office.store.write() as session:
        await session.execute(
            update(Connection).values(health="reauthorization_required", health_since=office.now)
        )
    page = implementation_markdown(await office.advance(second.progress), office.now, Links())
    of_old, of_new = [line for line in page.splitlines() if "has to log in again" in line][:2]
    assert of_old.startswith("- **SAP ECC**")
    assert "its alerts and mails go on" in of_old
    assert of_new.startswith("- **UpKeep**")
    assert "Before the go-live it causes no alert and no mail" in of_new
