"""What a sweep concludes from the list, and from one that cannot be read."""

import re

import pytest

import sandbox
from linekeeper.clock import utcnow
from linekeeper.makini import ErrorKind, MakiniError
from linekeeper.runtime import Runtime
from linekeeper.sweep.sweep import take_list
from tests.health.test_sweep import adopt, connections, control, incidents, sweep


async def test_a_list_that_repeats_itself_for_ever_looks_truncated(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    await adopt(rt, fleet)
    before = await connections(rt)
    await control(fleet, "settings", admin_list="repeat")
    app = await rt.app("default")
    for _ in range(6):  # more often than failures open the circuit of the app
        adoption = await take_list(rt, app, now=utcnow())
        assert "looks truncated: the list repeats page 2" in adoption.truncated
    assert [(each.id, each.setup) for each in await connections(rt)] == [
        (each.id, each.setup) for each in before
    ]


@pytest.mark.parametrize("trouble", ["500", "html", "truncated", "429"])
async def test_a_list_that_cannot_be_read_concludes_nothing(
    rt: Runtime, fleet: sandbox.Served, trouble: str
) -> None:
    await adopt(rt, fleet)
    before = await connections(rt)
    await control(fleet, "settings", admin_list=trouble)
    app = await rt.app("default")
    for _ in range(2):
        with pytest.raises(MakiniError):
            await take_list(rt, app, now=utcnow())
    assert [
        (connection.id, connection.setup, connection.health) for connection in await connections(rt)
    ] == [(connection.id, connection.setup, connection.health) for connection in before]


async def test_the_apps_circuit_opens_after_five_failures(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    await control(fleet, "settings", admin_list="500")
    app = await rt.app("default")
    errors = []
    for _ in range(6):
        with pytest.raises(MakiniError) as caught:
            await take_list(rt, app, now=utcnow())
        errors.append(caught.value)
    kinds = [error.kind for error in errors]
    assert kinds == [ErrorKind.unavailable] * 5 + [ErrorKind.circuit_open]
    said = str(errors[-1])
    assert re.search(r"5 failures in a row since \d{4}-\d\d-\d\d \d\d:\d\d UTC", said)
    assert f"the last with “{errors[-2].brief}”" in said, "what is wrong"
    assert re.search(r"A sweep in \d+ s or later tries again", said)


async def test_a_connection_missing_from_two_complete_lists_is_disconnected(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    await adopt(rt, fleet)
    [victim, *_] = await connections(rt)
    app = await rt.app("default")
    await rt.makini(app).delete_connection(victim.makini_key)
    await sweep(rt)
    assert (await connections(rt))[0].setup == "live"
    await sweep(rt)
    assert (await connections(rt))[0].setup == "disconnected"


async def test_an_unknown_status_in_the_list_is_never_healthy(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    await adopt(rt, fleet)
    [victim, *_] = await connections(rt)
    await control(fleet, f"connections/{victim.makini_key}/status", status="Frobnicating")
    await sweep(rt)
    [victim, *_] = await connections(rt)
    assert victim.health == "unknown"
    [incident] = await incidents(rt)
    assert incident.kind == "unknown"
