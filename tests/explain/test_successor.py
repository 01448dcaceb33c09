"""The connection that took over from another is called as people call it."""

from tests.explain.test_odd import World, world

__all__ = ["world"]  # a fixture


async def test_a_connection_that_took_over_is_called_as_people_call_it(world: World) -> None:
    after = await world.connection("after")
    await world.connection("before", setup="disconnected", replaced_by=after.id)
    found = await world.ask("before nowhere-1")
    assert found.verdict.summary == (
        f"The connection is disconnected. Its successor is Acme · Maximo ({after.makini_key})."
    )
