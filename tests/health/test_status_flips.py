"""A status that says `fail` and `done` by turns, of a connection whose records can be read."""

from datetime import timedelta

from starlette.responses import JSONResponse

from linekeeper.clock import utcnow
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Connection
from tests.health.test_status_refused import STATUS, probed
from tests.health.test_sweep import incidents, sweep
from tests.makini.peer import Peer
from tests.reconcile.answering import ASSETS, rt, server

__all__ = ["rt", "server"]


def says(server: Peer, word: str) -> None:
    def status(_: object) -> JSONResponse:
        data = {"id": "k1", "sync_status": word, "sync_updated_at": utcnow().isoformat()}
        return JSONResponse({"data": data})

    server.answer("GET", STATUS, status)


async def test_who_was_found_to_need_no_login_is_not_asked_again_within_the_hour(
    rt: Runtime, server: Peer
) -> None:
    """The customer got two mails a flip: to log in, and that all works again."""
    server.answer("GET", ASSETS, {"data": [{"key": "01"}]})
    says(server, "done")
    await sweep(rt)
    says(server, "fail")
    assert (await probed(rt)).health == "reauthorization_required"
    for word in ("done", "fail", "done", "fail"):
        says(server, word)
        assert (await probed(rt)).health == "healthy"
    [incident] = await incidents(rt)
    assert (incident.status, incident.round) == ("resolved", 0)

    connection = await probed(rt)
    async with rt.store.write() as session:
        row = await session.get_one(Connection, connection.id)
        restored = utcnow() - timedelta(hours=2)
        row.judged = {**row.judged, "restored_at": restored.isoformat()}
    assert (await probed(rt)).health == "reauthorization_required", "a word that lasts is believed"


async def test_a_login_that_is_lost_again_is_noticed_at_once(rt: Runtime, server: Peer) -> None:
    server.answer("GET", ASSETS, {"data": [{"key": "01"}]})
    says(server, "done")
    await sweep(rt)
    says(server, "fail")
    await probed(rt)
    says(server, "done")
    assert (await probed(rt)).health == "healthy"
    refusal = {"code": "AUTHENTICATION_FAILED", "message": "no"}
    server.answer("GET", ASSETS, lambda _: JSONResponse(refusal, 401))
    says(server, "fail")
    assert (await probed(rt)).health == "reauthorization_required"
