"""A key that nobody knows, asked of a system that does not offer every entity."""

import pytest

from linekeeper.store import Store
from linekeeper.store.tables import Watermark
from tests.explain.test_odd import ASSETS, NOW, ORDERS, World, world

__all__ = ["world"]  # a fixture


@pytest.mark.parametrize(
    ("subject", "cause"),
    [
        ("Acme · Maximo typed-wrong", "never_seen"),
        ("Acme · Maximo assets typed-wrong", "never_seen"),
        ("Acme · Maximo work-orders typed-wrong", "entity_not_offered"),
    ],
)
async def test_an_unknown_key_is_not_put_down_to_an_entity_that_nobody_named(
    store: Store, world: World, subject: str, cause: str
) -> None:
    """Most systems lack one of the entities: that says nothing of a key which may be mistyped."""
    which = await world.connection("1042")
    read = {"position": NOW, "polled_at": NOW, "full_at": NOW, "moved_at": NOW}
    await world.add(
        Watermark(connection_id=which.id, entity=ASSETS, **read),
        Watermark(connection_id=which.id, entity=ORDERS, offered=False),
    )
    found = await world.ask(subject)
    assert found.verdict.cause == cause
    assert (f"does not offer {ORDERS}" in found.verdict.summary) is (" assets " not in subject)
    assert ("Check the key" in found.verdict.next_step) is (cause == "never_seen")
