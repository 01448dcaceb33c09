"""Errors in an answer with status 200 are neither an empty page nor the end of a listing."""

from typing import Any

import pytest
from sqlmodel import col, select
from starlette.requests import Request
from starlette.responses import JSONResponse

from linekeeper.clock import utcnow
from linekeeper.makini import ErrorKind, MakiniError
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Incident, Record, Watermark
from linekeeper.sweep.sweep import take_list
from tests.makini.peer import Peer
from tests.reconcile.answering import ASSETS, asset, rt, server
from tests.reconcile.conftest import run

__all__ = ["rt", "server"]
STATUS = "/api/integrations/current"
FAILED = [{"message": "No answer from SAP."}]


async def known(rt: Runtime) -> set[str]:
    async with rt.store.read() as session:
        return set(
            await session.scalars(select(col(Record.key)).where(col(Record.deleted_at).is_(None)))
        )


async def mark(rt: Runtime) -> Watermark:
    async with rt.store.read() as session:
        return (await session.scalars(select(Watermark))).one()


@pytest.fixture(autouse=True)
def well(server: Peer, rt: Runtime) -> None:
    server.answer("GET", STATUS, {"data": {"id": "k1", "sync_status": "done"}})


@pytest.mark.parametrize(
    "body",
    [
        {"data": [], "errors": FAILED},
        {"data": None, "errors": FAILED},
        {"status": "error", "errors": FAILED},
        {"data": [], "meta": {"last_page": 1, "total": 0}, "errors": {"system": ["It is down."]}},
    ],
)
async def test_errors_in_place_of_a_first_page_are_a_failure_that_says_what_they_say(
    rt: Runtime, server: Peer, body: dict[str, Any]
) -> None:
    server.answer("GET", ASSETS, body)
    for _ in range(2):
        [failure] = (await run(rt)).failures
        assert failure.retryable
        assert "No answer from SAP" in failure.message or "is down" in failure.message
    assert (await mark(rt)).full_at is None  # what comes first is still a baseline
    async with rt.store.read() as session:
        assert (await session.scalars(select(Incident))).one().kind == "entity_failing"
    server.answer("GET", ASSETS, {"data": [asset("1")]})
    assert not (await run(rt)).failures
    assert await known(rt) == {"1"}


async def test_errors_in_place_of_a_later_page_end_no_listing(rt: Runtime, server: Peer) -> None:
    answers = [{"data": [asset("1")]}, {"data": [], "errors": FAILED}, {"data": [asset("2")]}]

    def page(request: Request) -> JSONResponse:
        number = int(request.query_params["page"])
        if number > 1 and len(answers) > 2:
            return JSONResponse(answers.pop(1))
        return JSONResponse(answers[number - 1] if number <= 2 else {"data": []})

    server.answer("GET", ASSETS, page)
    assert not (await run(rt)).failures
    assert await known(rt) == {"1", "2"}


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"data": None, "errors": FAILED}, ErrorKind.unavailable),
        ({"status": 503, "errors": FAILED}, ErrorKind.unavailable),
        ({"status": 401, "errors": ["The token has expired."]}, ErrorKind.unauthorized),
        ({"status": "429", "errors": [{"message": "Too many calls."}]}, ErrorKind.rate_limited),
        ({"errors": [{"status": 403, "message": "No permission."}]}, ErrorKind.forbidden),
    ],
)
async def test_errors_in_place_of_a_record_do_not_say_that_it_is_gone(
    rt: Runtime, server: Peer, body: dict[str, Any], kind: ErrorKind
) -> None:
    server.answer("GET", f"{ASSETS}/1", body)
    with pytest.raises(MakiniError) as raised:
        await rt.makini(await rt.app("default")).record("t", "eam/assets", "1", connection="k1")
    assert raised.value.kind is kind


async def test_errors_in_place_of_the_connection_list_make_nobody_disappear(
    rt: Runtime, server: Peer
) -> None:
    server.answer("GET", "/api/system/connections", {"data": [], "errors": FAILED})
    app = await rt.app("default")
    with pytest.raises(MakiniError, match="No answer from SAP"):
        await take_list(rt, app, now=utcnow())


@pytest.mark.parametrize("errors", [[], {}, None, ""])
async def test_an_answer_whose_errors_are_empty_is_one_like_any_other(
    rt: Runtime, server: Peer, errors: object
) -> None:
    server.answer("GET", ASSETS, {"data": [asset("1", errors=FAILED)], "errors": errors})
    assert not (await run(rt)).failures
    assert await known(rt) == {"1"}
