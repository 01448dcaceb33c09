"""A status of Makini's that is broken for good is told by the doctor, as nothing else tells it."""

import pytest
from starlette.responses import HTMLResponse, JSONResponse, Response

from linekeeper.doctor import DoctorFinding, examine
from linekeeper.runtime import Runtime
from tests.health.test_status_refused import STATUS, probed
from tests.health.test_sweep import sweep
from tests.makini.peer import Peer
from tests.reconcile.answering import ASSETS, rt, server

__all__ = ["rt", "server"]


async def of_status(rt: Runtime) -> list[DoctorFinding]:
    return [each for each in await examine(rt) if each.name.endswith(" · status")]


@pytest.mark.parametrize(
    "answer",
    [
        HTMLResponse("<html>maintenance</html>"),
        JSONResponse({"message": "Server Error"}, 500),
        JSONResponse({"message": "Unauthenticated."}, 401),
        JSONResponse([]),
    ],
)
async def test_a_status_that_fails_while_records_are_read_is_told_by_the_doctor(
    rt: Runtime, server: Peer, answer: Response
) -> None:
    server.answer("GET", STATUS, {"data": {"id": "k1", "sync_status": "done"}})
    server.answer("GET", ASSETS, {"data": [{"key": "01"}]})
    assert await of_status(rt) == [], "no connection is known yet"
    await sweep(rt)
    [found] = await of_status(rt)
    assert (found.level, found.text) == ("ok", "a connection answers how it is")
    server.answer("GET", STATUS, lambda _: answer)
    for _ in range(3):
        assert (await probed(rt)).health == "healthy"
    [found] = await of_status(rt)
    assert found.level == "warn"
    assert "the status of 1 connection that is called healthy fails: " in found.text
