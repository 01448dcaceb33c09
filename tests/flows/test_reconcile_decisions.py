"""What reconciliation leaves to a person: many deletions, and records to be paired."""

from datetime import timedelta

import pytest
from sqlalchemy import update
from sqlmodel import col, select

from flows.deletions import deletions
from flows.reconcile import reconcile
from linekeeper.clock import utcnow
from linekeeper.reconcile.policy import POLICY
from linekeeper.runtime import Runtime
from linekeeper.store.tables import (
    Audit,
    Connection,
    Deletion,
    Incident,
    Record,
    Watermark,
)
from linekeeper.sweep.batch import probe_batch
from linekeeper.sweep.sweep import take_list
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import Running, on, on_both
from tests.flows.test_reconcile_flows import ended, first_connection, peer, rt
from tests.reconcile.conftest import Peer, index, parsed

__all__ = ["peer", "rt"]  # fixtures
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@on_both
async def test_too_many_deletions_wait_for_a_decision_which_can_be_undone(
    rt: Runtime, peer: Peer, running: Running, clean_prefect: PrefectServer
) -> None:
    connection = await first_connection(rt)
    key = connection.makini_key
    with on(clean_prefect):
        await reconcile([key])
        before = await index(rt)
        await peer.set("records", connection=key, entity="eam/assets", delete=15)
        await reconcile([key], full=True)
        assert await index(rt) == before  # one listing alone proves nothing
        await _confirm_now(rt)
        state = await reconcile([key], full=True, return_state=True)
        assert "15 look deleted and wait for you" in ended(state)[1]
        assert await index(rt) == before
        table = await running.artifact("webhook-trust")
        assert "waits for you" in table
        async with rt.store.read() as session:
            [held] = await session.scalars(select(Deletion))
        refused = await deletions("nothing-of-that-name", "accept", "Petra", return_state=True)
        assert ended(refused)[0] == "Refused"
        done = await deletions(held.id, "accept", "Petra", return_state=True)
        assert "15 records deleted here" in ended(done)[1]
        assert await index(rt) == {key: parsed(await peer.truth())[key]}
        async with rt.store.read() as session:
            [incident] = await session.scalars(
                select(Incident).where(col(Incident.kind) == "deletions_held")
            )
            assert incident.status == "resolved"
        undone = await deletions(key, "undo", "Petra", return_state=True)
        assert "15 records restored" in ended(undone)[1]
        assert await index(rt) == before
    async with rt.store.read() as session:
        actions = list(await session.scalars(select(Audit.action).order_by(col(Audit.at))))
    assert actions == ["deletion.accepted", "deletion.undone"]


@on_both
@pytest.mark.repeats(
    "reconcile/test_succession_twins.py::test_twins_wait_for_a_person_who_pairs_them"
)
async def test_records_only_a_person_can_match_are_on_a_page_and_paired_in_the_form(
    rt: Runtime, peer: Peer, running: Running, clean_prefect: PrefectServer
) -> None:
    connection = await first_connection(rt)
    before, after = connection.makini_key, ""
    twins = [
        {
            "connection": before,
            "entity": "eam/work-orders",
            "record": {"key": key, "code": "WO-TWIN", "title": "Pump", "createdAt": "2025-01-01"},
        }
        for key in ("twin-a", "twin-b")
    ]
    await peer.set("records", put=twins, announce=False)
    with on(clean_prefect):
        await reconcile([before], full=True)
        await peer.set(f"connections/{before}/succeed", how="prefix")
        for app in (await rt.configuration()).apps.values():
            for minutes in (0, 5):  # missing from two lists, and refused between them
                await take_list(rt, app, now=utcnow() + timedelta(minutes=minutes))
                await probe_batch(rt, app, [connection.id], started=utcnow(), last_try=True)
        async with rt.store.read() as session:
            old = await session.get_one(Connection, connection.id)
            assert old.replaced_by is not None
            after = (await session.get_one(Connection, old.replaced_by)).makini_key
        async with rt.store.write() as session:  # as rows are whose keys share nothing
            await session.execute(
                update(Record)
                .where(
                    col(Record.connection_id) == connection.id, col(Record.key).startswith("twin")
                )
                .values(key="old-" + col(Record.key))
            )
        await reconcile([after], full=True)
        shown = await deletions(after, "show", "Petra", return_state=True)
        assert ended(shown) == ("Completed", "1 groups of records wait for a decision")
        async with rt.store.read() as session:
            slug = (await session.get_one(Connection, old.replaced_by)).slug
        page = await running.artifact(f"match-records-{slug}")
        assert "old-twin-a" in page
        assert "WO-TWIN" in page
        wrong = await deletions(after, "pair", "Petra", "no pair", return_state=True)
        assert ended(wrong)[0] == "Refused"
        paired = "old-twin-a = 01twin-a\nold-twin-b = 01twin-b"
        done = await deletions(after, "pair", "Petra", paired, return_state=True)
        assert ended(done) == ("Completed", "2 records matched, 0 announced as new, 0 still wait")


async def _confirm_now(rt: Runtime) -> None:
    """As if the time until the listing that confirms had passed."""
    async with rt.store.write() as session:
        await session.execute(
            update(Watermark)
            .where(col(Watermark.confirm_at).is_not(None))
            .values(confirm_at=utcnow() - POLICY.confirm)
        )
