"""The form `mode`, run as Prefect runs it."""

import re

import pytest
from sqlalchemy import select

from flows.mode import mode
from linekeeper.store import Store, new_id
from linekeeper.store.tables import Audit, Connection, ModeRule
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import Running, on, on_both

pytestmark = [pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"), on_both]


async def rules(store: Store) -> list[tuple[str, str | None, bool | None]]:
    async with store.read() as session:
        rows = await session.scalars(select(ModeRule))
        return [(row.label, row.mode, row.notify_customers) for row in rows]


@pytest.mark.repeats(
    "reconnect/test_modes.py::test_a_dry_run_counts_what_then_happens",
    "flows/test_refused.py::test_every_form_refuses_a_mistake_with_its_field_and_no_run_is_red",
)
async def test_it_is_a_dry_run_until_what_it_says_is_typed_by_somebody(
    running: Running, store: Store, clean_prefect: PrefectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINEKEEPER_MAKINI_API_URL", "http://127.0.0.1:9")
    async with store.write() as session:
        for number in range(3):
            session.add(
                Connection(
                    id=new_id(),
                    app="default",
                    makini_key=f"c{number}",
                    name=f"System {number}",
                    slug=f"system-{number}",
                    provider=f"System {number}",
                    setup="live",
                    tags=["pilot"] if number < 2 else [],
                )
            )
    with on(clean_prefect):
        seen = await mode(["pilot"], "tags", "manage", return_state=True)
        assert seen.name == "Completed"
        assert seen.message == "Dry run; artifact mode. To do it, confirm: manage 2"
        page = await running.artifact("mode")
        assert "2 would go from observe to manage" in page
        assert "Nothing was changed" in page
        assert (await running.last()).name == "mode · dry run for tag pilot"
        for confirm, by in (("manage 2", ""), ("manage 3", "Petra"), ("yes", "Petra")):
            refused = await mode(
                ["pilot"], "tags", "manage", confirm=confirm, by=by, return_state=True
            )
            assert refused.name == "Refused", confirm
        for wrong in (["nobody"], "tags", "manage"), (["pilot"], "tags"), (["x"],):
            assert (await mode(*wrong, return_state=True)).name == "Refused"
        assert await rules(store) == []

        done = await mode(
            ["pilot"], "tags", "manage", confirm=" Manage 2 ", by="Petra", return_state=True
        )
        assert (done.name, done.message) == (
            "Completed",
            "2 connections are named. 2 go from observe to manage: System 0, System 1. 2 will "
            "get a token minted by the next sweep, which may end the product's own: System 0, "
            "System 1. 0 people are notified at once, of a login that is lost already.",
        )
        assert await rules(store) == [("tag pilot", "manage", None)]
        cleared = await mode(
            ["pilot"], "tags", "clear the rule", confirm="clear 2", by="Petra", return_state=True
        )
        assert "2 go from manage to observe" in str(cleared.message)
    assert await rules(store) == []
    async with store.read() as session:
        audit = await session.execute(select(Audit.by, Audit.action).order_by(Audit.id))
        assert [tuple(row) for row in audit] == [("Petra", "mode.set"), ("Petra", "mode.cleared")]
    assert re.search(r"Done by Petra", await running.artifact("mode"))
