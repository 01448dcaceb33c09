"""One connection that falls again after an outage of many: what is said is what is so now."""

from sqlalchemy import select
from sqlmodel import col

from linekeeper.notify.situations import read_state
from linekeeper.notify.view import load_views
from linekeeper.store.tables import Connection, Incident
from tests.notify.conftest import Desk
from tests.notify.test_merged import become


async def _become(desk: Desk, ids: list[str], health: str) -> None:
    await become(desk, ids, health)
    await desk.deliver()


async def _outage(desk: Desk) -> tuple[str, list[str]]:
    """Six of a provider fall together, and are well again."""
    for n in range(6):
        await desk.open(customer=f"Acme {n}")
    async with desk.store.read() as session:
        ids = list(await session.scalars(select(col(Connection.id)).order_by(Connection.slug)))
    await _become(desk, ids, "unreachable")
    async with desk.store.read() as session:
        wide = await session.scalar(select(Incident).where(col(Incident.resolved_at).is_(None)))
    assert wide is not None
    assert wide.title == "sap-ecc · 6 connections"
    await _become(desk, ids, "healthy")
    return wide.id, ids


async def _open_message(desk: Desk) -> str:
    [head] = [m for m in desk.messages() if m["text"].startswith(":red_circle:")]
    return str(head["blocks"])


async def test_the_one_that_falls_again_is_named_and_the_others_are_not_called_affected(
    desk: Desk,
) -> None:
    wide, ids = await _outage(desk)
    await _become(desk, ids[:1], "unreachable")
    [view] = (await load_views(desk.store, [wide])).values()
    assert view.resolved_at is None
    assert (view.member_count, view.recovered_count) == (1, 0)
    assert view.title == f"{view.members[0].label} again (before: 6 connections of sap-ecc)"
    said = await _open_message(desk)
    assert "again (before: 6 connections of sap-ecc) — Unreachable" in said
    assert "fail alike" not in said
    assert "*Affected* 6 connections" not in said
    async with desk.store.read() as session:
        state = await read_state(session, desk.configuration, desk.now())
    assert [each.severity for each in state.situations if each.id == wide] == ["normal"]

    await _become(desk, ids[1:3], "unreachable")
    [view] = (await load_views(desk.store, [wide])).values()
    assert view.title == "sap-ecc · 3 connections again (before: 6 connections)"
    assert "*Affected* 3 connections" in await _open_message(desk)


async def test_an_outage_that_is_back_as_it_was_has_its_title_again(desk: Desk) -> None:
    wide, ids = await _outage(desk)
    await _become(desk, ids, "unreachable")
    [view] = (await load_views(desk.store, [wide])).values()
    assert (view.title, view.member_count) == ("sap-ecc · 6 connections", 6)
