"""verify-account reads answers that are written otherwise as the client does."""

import codecs
from collections.abc import AsyncIterator
from datetime import timedelta
from email.utils import format_datetime

import orjson
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from linekeeper.clock import utcnow
from linekeeper.customers.adopt import adopt
from linekeeper.makini import ListedConnection, TokenPair
from linekeeper.makini.http_client import MAX_BODY_BYTES
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.tokens.stored import save_tokens
from linekeeper.verify_account.question import Confirmation
from linekeeper.verify_account.service import Verification, Wish, verify_account
from tests.makini.peer import Peer
from tests.reconcile.answering import server
from tests.reconcile.conftest import pointed_at

__all__ = ["server"]
LIST = "/api/system/connections"
LISTED = {
    "data": [{"key": "k1", "name": "Acme · SAP ECC", "status": "Active"}],
    "meta": {"current_page": 1, "last_page": 1, "per_page": 100, "total": 1},
}


@pytest.fixture
async def rt(settings: Settings, store: Store, server: Peer) -> AsyncIterator[Runtime]:
    """A runtime in observe whose Makini lists one connection."""
    server.reset()
    server.answer("GET", LIST, LISTED)
    server.answer("GET", "/api/system/client", {"data": {"id": "cid", "name": "Operator"}})
    server.answer("GET", "/api/system/platforms", {"data": []})
    managed = pointed_at(settings, server.url, makini_mode="observe", makini_per_minute=600)
    async with Runtime.open(managed) as opened:
        yield opened


async def verify(rt: Runtime) -> Verification:
    return await verify_account(rt, "default", Wish(), now=utcnow(), say=lambda _: None)


async def test_a_byte_order_mark_before_its_answers_changes_nothing(
    rt: Runtime, server: Peer
) -> None:
    plain = [(answer.question, answer.verdict) for answer in (await verify(rt)).answers]

    def marked(value: object) -> Response:
        body = codecs.BOM_UTF8 + orjson.dumps(value)
        return Response(body, media_type="application/json")

    token = {"access_token": "t", "expires_in": 3600}
    server.answer("POST", "/link/token", lambda _: marked(token))
    server.answer("GET", LIST, lambda _: marked(LISTED))
    again = await verify_account(rt, "default", Wish(again=True), now=utcnow(), say=lambda _: None)
    found = [(answer.question, answer.verdict) for answer in again.answers]
    assert [pair for pair in found if pair[0].startswith("list-")] == [
        pair for pair in plain if pair[0].startswith("list-")
    ]


@pytest.mark.parametrize("days", [-1, 1])
async def test_the_date_until_which_it_has_to_wait_counts_by_makinis_clock(
    rt: Runtime, server: Peer, days: int
) -> None:
    refused: list[Request] = []

    def busy_once(request: Request) -> Response:
        if refused:
            return JSONResponse(LISTED)
        refused.append(request)
        there = utcnow() + timedelta(days=days)
        headers = {
            "date": format_datetime(there, usegmt=True),
            "retry-after": format_datetime(there + timedelta(seconds=1), usegmt=True),
        }
        return JSONResponse({"message": "Too many"}, 429, headers=headers)

    server.answer("GET", LIST, busy_once)
    done = await verify(rt)
    assert refused
    assert done.unanswered == []


@pytest.mark.parametrize("status", [401, 403])
async def test_where_the_list_is_not_allowed_it_says_so_once_and_goes_on_with_what_works(
    rt: Runtime, server: Peer, status: int
) -> None:
    server.answer("GET", LIST, lambda _: JSONResponse({"message": "Not yours."}, status))
    server.answer("GET", "/api/integrations/current", {"data": {"id": "k1", "sync_status": "done"}})
    server.answer("GET", "/api/eam/assets", {"data": [{"key": "01", "name": "Pump"}]})
    said: list[str] = []
    wish = Wish(data=True)
    first = await verify_account(rt, "default", wish, now=utcnow(), say=said.append)
    assert any("connection add --key" in line for line in said)
    [line] = first.unanswered
    assert line.startswith(f"the list of connections: Makini answered {status}")
    assert "ask Makini to allow it" in line
    assert len(server.asked(LIST)) == 2  # and the refusal that is asked for on purpose

    async with rt.store.write() as session:  # as `linekeeper connection add` does
        listed = ListedConnection(key="k1", id="k1", name="Acme", provider="SAP ECC")
        adopted = await adopt(rt.store, session, "default", [listed], now=utcnow())
        pair = TokenPair("t")
        await save_tokens(rt.store, session, {adopted.ids["k1"]: pair}, now=utcnow())
    again = await verify_account(rt, "default", wish, now=utcnow(), say=said.append)
    assert len(again.unanswered) == 1
    seen = {answer.question: answer.verdict for answer in again.answers}
    assert seen["sync-status"] is Confirmation.seen_so


async def test_a_capped_page_with_a_cursor_to_more_is_not_all_there_is(
    rt: Runtime, server: Peer
) -> None:
    page = {"data": [{"key": f"0{number}"} for number in range(10)], "next_cursor": "more"}
    server.answer("GET", "/api/integrations/current", {"data": {"id": "k1", "sync_status": "done"}})
    for entity in rt.settings.makini_entities:
        server.answer("GET", f"/api/{entity}", page)
    async with rt.store.write() as session:
        listed = ListedConnection(key="k1", id="k1", name="Acme", provider="SAP ECC")
        adopted = await adopt(rt.store, session, "default", [listed], now=utcnow())
        await save_tokens(rt.store, session, {adopted.ids["k1"]: TokenPair("t")}, now=utcnow())
    done = await verify_account(rt, "default", Wish(data=True), now=utcnow(), say=lambda _: None)
    [cap] = [answer for answer in done.answers if answer.question == "record-page-cap"]
    assert cap.verdict is Confirmation.seen_otherwise
    assert "a cursor to more" in cap.evidence


async def test_of_an_answer_that_does_not_end_no_more_is_read_than_the_client_reads(
    rt: Runtime, server: Peer
) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(2 * MAX_BODY_BYTES >> 20):
            yield b" " * (1 << 20)

    server.answer("GET", LIST, lambda _: StreamingResponse(endless(), media_type="text/json"))
    unanswered = (await verify(rt)).unanswered
    assert unanswered
    assert all(line.endswith("Makini answered with more than 8 MiB") for line in unanswered)
