"""What Linekeeper finds out by itself, or people decide here, is not said to have been announced,
nor to have been announced too late or not at all."""

from datetime import timedelta

import pytest

from linekeeper.explain.answer import HopName, HopState

from .test_odd import NOW, World, change, record, world

__all__ = ["world"]


@pytest.mark.parametrize("op", ["deleted", "inserted"])
async def test_a_deletion_and_its_undoing_are_announced_by_nobody(world: World, op: str) -> None:
    """A deletion's change has its own time where others have that of their delivery."""
    which = await world.connection("a", last_webhook_at=NOW)
    of_record = record(which, "9")
    of_record.updated_at = NOW - timedelta(days=2)
    of_record.deleted_at = NOW if op == "deleted" else None
    ours = change(which, "9", 2, op=op, source="deletion", announced_at=NOW, at=NOW)
    ours.updated_at = None
    earlier = change(which, "9", 1, op="deleted", source="deletion", announced_at=NOW, at=NOW)
    earlier.updated_at = NOW - timedelta(days=2)
    await world.add(of_record, ours, earlier)
    for subject in ("Acme · Maximo 9", ours.id, earlier.id):
        found = await world.ask(subject)
        hops = {hop.name: hop for hop in found.hops}
        assert hops[HopName.webhook].state is HopState.not_needed, hops[HopName.webhook]
        assert hops[HopName.accepted].state is HopState.not_needed
        assert found.verdict.cause not in ("webhook_lost", "webhook_late")
        assert found.verdict.missing is not HopName.webhook
