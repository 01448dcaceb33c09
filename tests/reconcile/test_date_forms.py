"""The form in which a source writes its dates is no change of a record."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

import sandbox.data
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Connection
from sandbox.personality import as_shown
from sandbox.world import World
from tests.reconcile.conftest import Peer, feed, run
from tests.reconcile.test_drift import changed

Form = Callable[[datetime], Any]
FORMS: dict[str, tuple[Form, Form]] = {
    "no zone": (
        lambda at: at.isoformat().replace("+00:00", "Z"),
        lambda at: at.isoformat().removesuffix("+00:00"),
    ),
    "an offset": (lambda at: at.isoformat().replace("+00:00", "Z"), lambda at: at.isoformat()),
    "milliseconds": (
        lambda at: at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        lambda at: int(at.timestamp() * 1000 + 1e-6),
    ),
    "seconds": (
        lambda at: at.isoformat(timespec="seconds").replace("+00:00", "Z"),
        lambda at: int(at.timestamp()),
    ),
}


@pytest.mark.parametrize("how", FORMS)
async def test_dates_in_another_form_and_back_are_no_change(
    rt: Runtime, peer: Peer, one: Connection, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(form: Form) -> None:
        def shown(world: World, body: dict[str, Any]) -> dict[str, Any]:
            body = as_shown(world, body)
            dates = {
                name: form(datetime.fromisoformat(body[name]))
                for name in ("createdAt", "updatedAt")
                if body.get(name)
            }
            return body | dates

        monkeypatch.setattr(sandbox.data, "as_shown", shown)

    usual, other = FORMS[how]
    write(usual)
    await run(rt, full=True)
    before = len(await feed(rt))
    for form in (other, usual):
        write(form)
        await run(rt, full=True)
        assert len(await feed(rt)) == before
    write(other)
    keys = await changed(peer, one, 3)
    await run(rt, full=True)
    news = (await feed(rt))[before:]
    assert sorted((change.op, change.key) for change in news) == sorted(
        ("updated", key) for key in keys
    )
