"""A status that refuses every token: what the connection's reads say counts."""

from datetime import datetime, timedelta

import pytest
from sqlalchemy import update
from sqlmodel import col, select
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from linekeeper.clock import utcnow
from linekeeper.health.evidence import Outcome
from linekeeper.makini import TokenPair
from linekeeper.notify import compose
from linekeeper.notify.situations import read_state
from linekeeper.notify.view import load_views
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Connection, Credential, Transition
from linekeeper.tokens.lost_renewal import lost_renewals
from linekeeper.tokens.stored import save_tokens
from tests.health.test_contradictions import said
from tests.health.test_sweep import connections, incidents, sweep
from tests.makini.peer import Peer
from tests.reconcile.answering import ASSETS, rt, server
from tests.reconnect.working_clock import at

__all__ = ["rt", "server"]
STATUS = "/api/integrations/current"
MINT = "/api/system/connections/k1/token"


def refused(_: object) -> JSONResponse:
    return JSONResponse({"code": "AUTHENTICATION_FAILED", "message": "Unauthenticated."}, 401)


async def probed(rt: Runtime) -> Connection:
    """Sweep as it is due again, and return the connection."""
    async with rt.store.write() as session:
        await session.execute(update(Connection).values(next_probe_at=utcnow()))
    await sweep(rt)
    [connection] = await connections(rt)
    return connection


async def well_until_now(rt: Runtime, server: Peer) -> None:
    """One sweep finds the login well; from then on the status refuses the token."""
    server.answer("GET", STATUS, {"data": {"id": "k1", "sync_status": "done"}})
    server.answer("GET", ASSETS, {"data": [{"key": "01"}]})
    await sweep(rt)
    server.answer("GET", STATUS, refused)


async def test_a_login_whose_records_are_read_is_not_lost_because_the_status_refuses(
    rt: Runtime, server: Peer
) -> None:
    """A permission that is missing, or a route of Makini's that is broken: nobody is mailed."""
    await well_until_now(rt, server)
    for _ in range(2):
        connection = await probed(rt)
        assert (connection.health, connection.evidence) == ("healthy", "read")
    assert await incidents(rt) == []
    assert len(server.asked(MINT)) == 1, "the token works: none is made in its place"

    server.answer("GET", ASSETS, refused)
    connection = await probed(rt)
    assert (connection.health, connection.evidence) == ("reauthorization_required", "probed")
    [incident] = await incidents(rt)
    assert incident.kind == "reauthorization_required"

    server.answer("GET", ASSETS, {"data": [{"key": "01"}]})
    server.answer("GET", STATUS, {"data": {"id": "k1", "sync_status": "done"}})
    assert (await probed(rt)).health == "healthy"
    [incident] = await incidents(rt)
    assert incident.status == "resolved"


@pytest.mark.parametrize(
    "answer",
    [
        HTMLResponse("<html>maintenance</html>"),
        JSONResponse({"message": "Server Error"}, 500),
        JSONResponse({"message": "Forbidden"}, 403),
        JSONResponse([]),
    ],
)
async def test_a_connection_whose_records_are_read_is_not_unreachable_because_its_status_fails(
    rt: Runtime, server: Peer, answer: Response
) -> None:
    """Else no record of it would be read any more, for one broken route of Makini's."""
    server.answer("GET", STATUS, {"data": {"id": "k1", "sync_status": "done"}})
    server.answer("GET", ASSETS, {"data": [{"key": "01"}]})
    await sweep(rt)
    server.answer("GET", STATUS, lambda _: answer)
    for _ in range(7):
        assert (await probed(rt)).health == "healthy"
    assert await incidents(rt) == []
    assert len(server.asked(ASSETS)) == 2, "only where it would become unreachable"

    server.answer("GET", ASSETS, lambda _: JSONResponse({"message": "Server Error"}, 503))
    for _ in range(5):
        connection = await probed(rt)
    assert connection.health in ("unreachable", "unknown")
    server.answer("GET", ASSETS, {"data": [{"key": "01"}]})
    for _ in range(3):
        connection = await probed(rt)
    assert connection.health == "healthy"


async def test_a_status_that_is_forbidden_is_told_as_such_and_not_as_missing_credits(
    rt: Runtime, server: Peer
) -> None:
    """A 403 names no cause (MAKINI "Data API"); that credits are out only Makini's list says."""
    await well_until_now(rt, server)
    for path in (STATUS, ASSETS):
        server.answer("GET", path, lambda _: JSONResponse({"message": "Forbidden"}, 403))
    for expected in ("healthy", "healthy", "unknown"):
        assert (await probed(rt)).health == expected
    [incident] = await incidents(rt)
    [view] = (await load_views(rt.store, [incident.id])).values()
    text = compose.plain(view, now=utcnow())
    assert "Forbidden" in text
    assert "credits" not in text
    assert "gives no status that Linekeeper understands" in text

    row = {"key": "k1", "name": "A", "integration_name": "SAP", "status": "Inactive"}
    server.answer("GET", "/api/system/connections", {"data": [row]})
    assert (await probed(rt)).health == "inactive"


async def refused_without_another(rt: Runtime, server: Peer) -> None:
    """It was well; now its token is refused, and another one is never given."""
    await well_until_now(rt, server)
    server.answer("GET", ASSETS, refused)
    server.answer("POST", MINT, lambda _: JSONResponse({"message": "Server Error"}, 500))


async def test_a_login_is_in_doubt_whose_token_is_refused_and_not_renewed_for_want_of_an_answer(
    rt: Runtime, server: Peer
) -> None:
    """It is no system that is away: Makini refuses whatever is asked with its token."""
    await refused_without_another(rt, server)
    for expected in ("healthy", "healthy", "unknown", "unknown"):
        assert (await probed(rt)).health == expected
    [incident] = await incidents(rt)
    assert incident.kind == "unknown"
    async with rt.store.read() as session:
        [fell] = await session.scalars(select(Transition).where(col(Transition.after) == "unknown"))
    assert "refuses its token, and gave no other" in str(fell.evidence)

    server.answer("POST", MINT, lambda _: JSONResponse({"message": "Forbidden"}, 403))
    assert (await probed(rt)).health == "reauthorization_required"


async def test_no_answer_was_lost_where_a_pair_was_refused_and_only_the_mint_was_unanswered(
    rt: Runtime, server: Peer
) -> None:
    await well_until_now(rt, server)
    [connection] = await connections(rt)
    pair = TokenPair("t", "r", utcnow() + timedelta(days=9), minted=False)
    async with rt.store.write() as session:
        await save_tokens(rt.store, session, {connection.id: pair}, now=utcnow())

    async def link(request: Request) -> Response:
        if (await request.form()).get("grant_type") == "refresh_token":
            return JSONResponse({"error": "invalid_grant"}, 400)
        return JSONResponse({"access_token": "admin", "expires_in": 3600})

    server.answer("POST", "/link/token", link)
    server.answer("GET", ASSETS, refused)
    server.answer("POST", MINT, lambda _: JSONResponse({"message": "Server Error"}, 500))
    for _ in range(3):
        connection = await probed(rt)
    assert connection.health == "unknown"
    server.answer("POST", MINT, refused)
    assert (await probed(rt)).health == "reauthorization_required"
    async with rt.store.read() as session:
        held = await session.get_one(Credential, connection.id)
        assert await lost_renewals(session, [connection.id]) == set()
    assert held.refused_at is not None


async def test_a_mint_that_fails_for_good_is_named_within_three_probes_and_not_let_pass(
    rt: Runtime, server: Peer
) -> None:
    """No customer is asked, who may have changed nothing: operators are, until one takes it."""
    await refused_without_another(rt, server)
    for _ in range(3):
        await probed(rt)
    [incident] = await incidents(rt)
    [view] = (await load_views(rt.store, [incident.id])).values()
    text = compose.plain(view, now=utcnow())
    assert "Makini refuses the token of this connection, and gives no other" in text
    assert "Ask Makini's support why" in text
    assert "run connect" in text
    async with rt.store.read() as session:
        moment = await read_state(session, await rt.configuration(), utcnow())
    assert [each.severity for each in moment.situations] == ["normal"], "what is low is let pass"

    server.answer("GET", STATUS, {"data": {"id": "k1", "sync_status": "never heard of"}})
    assert (await probed(rt)).health == "unknown"
    [view] = (await load_views(rt.store, [incident.id])).values()
    assert "Ask Makini's support why" not in compose.plain(view, now=utcnow())


async def test_a_later_sync_ends_a_claimed_loss_where_no_entity_can_be_read(
    rt: Runtime, server: Peer
) -> None:
    """A login that is lost does not synchronize: a status may be behind by an interval, no more."""

    def status(synced: datetime) -> dict[str, dict[str, str]]:
        fields = {"sync_status": "done", "sync_updated_at": synced.isoformat()}
        return {"data": {"id": "k1", **fields}}

    server.answer("GET", STATUS, status(utcnow()))
    await sweep(rt)
    [connection] = await connections(rt)
    lost_at = utcnow()
    await said(rt, connection, Outcome.login_lost)
    for hours, health in ((2, "reauthorization_required"), (26, "healthy")):
        with at(lost_at + timedelta(hours=hours)):
            server.answer("GET", STATUS, status(utcnow()))
            assert (await probed(rt)).health == health
    assert server.asked(ASSETS), "it may be read: it was tried"
    [incident] = await incidents(rt)
    assert incident.status == "resolved"


async def test_a_makini_of_an_earlier_version_that_refuses_the_token_has_lost_the_login(
    rt: Runtime, server: Peer
) -> None:
    """Its own route says so; that it has none of the present version says nothing of the login."""
    earlier = "/api/integrations/sync/status"
    server.answer("GET", STATUS, lambda _: JSONResponse({"message": "Not found"}, 404))
    server.answer("GET", earlier, {"status": "done"})
    server.answer("GET", ASSETS, {"data": [{"key": "01"}]})
    await sweep(rt)
    assert (await probed(rt)).health == "healthy"

    server.answer("GET", earlier, refused)
    server.answer("GET", ASSETS, refused)
    connection = await probed(rt)
    assert len(server.asked(MINT)) == 2, "another token is asked for at the first refusal"
    assert (connection.health, connection.evidence) == ("reauthorization_required", "probed")
    [incident] = await incidents(rt)
    assert incident.kind == "reauthorization_required"


async def test_a_makini_of_an_earlier_version_that_is_away_is_unreachable(
    rt: Runtime, server: Peer
) -> None:
    earlier = "/api/integrations/sync/status"
    server.answer("GET", STATUS, lambda _: JSONResponse({"message": "Not found"}, 404))
    server.answer("GET", earlier, {"status": "done"})
    server.answer("GET", ASSETS, {"data": [{"key": "01"}]})
    await sweep(rt)
    for path in (earlier, ASSETS):
        server.answer("GET", path, lambda _: JSONResponse({"message": "Server Error"}, 503))
    for _ in range(3):
        connection = await probed(rt)
    assert connection.health == "unreachable"
