"""verify-account reads answers that are written otherwise as the client does."""

import codecs
from collections.abc import AsyncIterator
from datetime import timedelta
from email.utils import format_datetime

import orjson
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from linekeeper.clock import utcnow
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
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
