"""Who left an incident that goes on for others: recovered, in trouble elsewhere, or in no use."""

from sqlalchemy import select, update
from sqlmodel import col

from linekeeper.store.tables import Connection, Incident, IncidentConnection
from tests.notify.conftest import Desk
from tests.notify.test_merged import become


async def _members(desk: Desk, incident: str) -> list[str]:
    rows = select(col(IncidentConnection.connection_id)).where(
        col(IncidentConnection.incident_id) == incident
    )
    async with desk.store.read() as session:
        return list(await session.scalars(rows))


def _line(desk: Desk, connection: str) -> str:
    """What the outage's message says of one that left it."""
    [outage] = [each for each in desk.messages() if " still affected" in str(each["blocks"])]
    lines = "\n".join(block["text"]["text"] for block in outage["blocks"] if "text" in block)
    [line] = [line for line in lines.split("\n") if line.startswith(f"• Acme · {connection}")]
    return line


async def test_who_left_for_other_trouble_is_not_called_recovered(desk: Desk) -> None:
    outage = await desk.open(others=6)
    await desk.deliver()
    by_name = {await _name(desk, each): each for each in await _members(desk, outage)}
    await become(desk, [by_name["SAP ECC 1"]], "reauthorization_required")
    await become(desk, [by_name["SAP ECC 2"]], "healthy")
    await desk.deliver()
    moved = "moved to another incident: Reauthorization required"
    assert moved in _line(desk, "SAP ECC 1")
    assert "recovered" not in _line(desk, "SAP ECC 1")
    assert "recovered" in _line(desk, "SAP ECC 2")

    await become(desk, [by_name["SAP ECC 1"]], "healthy")
    await become(desk, [by_name["SAP ECC 3"]], "healthy")
    await desk.deliver()
    assert moved in _line(desk, "SAP ECC 1"), "it did, whatever became of it there"


async def test_who_left_because_it_was_disconnected_is_not_called_recovered(desk: Desk) -> None:
    outage = await desk.open(others=6)
    await desk.deliver()
    by_name = {await _name(desk, each): each for each in await _members(desk, outage)}
    async with desk.store.write() as session:
        await session.execute(
            update(Connection)
            .where(col(Connection.id) == by_name["SAP ECC 1"])
            .values(setup="disconnected")
        )
    await become(desk, [by_name["SAP ECC 2"]], "healthy")
    await desk.deliver()
    assert "recovered" not in _line(desk, "SAP ECC 1")
    assert "disconnected" in _line(desk, "SAP ECC 1")
    async with desk.store.read() as session:
        assert (await session.get_one(Incident, outage)).resolved_at is None


async def _name(desk: Desk, connection: str) -> str:
    async with desk.store.read() as session:
        return (await session.get_one(Connection, connection)).name
