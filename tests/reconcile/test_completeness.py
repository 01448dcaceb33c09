"""How many records the source has and how many are here: said where people look, and true."""

from collections.abc import Callable
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from linekeeper.clock import utcnow
from linekeeper.reconcile.completeness import Completeness, completeness_of
from linekeeper.reconcile.entity_incidents import entity_states
from linekeeper.runtime import Runtime
from linekeeper.views.glance import glance
from tests.reconcile.answering import ASSETS
from tests.reconcile.conftest import run
from tests.reconcile.test_listings import (
    artifact,
    assets,
    open_incidents,
    page,
    rt,
    server,
    whole,
)

__all__ = ["rt", "server"]


async def complete(runtime: Runtime) -> Completeness:
    """What is known of the one entity that is read."""
    [state] = await entity_states(runtime.store)
    return completeness_of(state)


async def test_both_numbers_and_when_they_last_agreed_are_shown_and_in_status(
    rt: Runtime, server: Any
) -> None:
    everything = assets(20)
    server.answer("GET", ASSETS, whole(everything))
    await run(rt)
    known = await complete(rt)
    assert (known.source, known.here, known.state) == (20, 20, "agrees")
    agreed_at = known.agreed_at
    assert agreed_at is not None
    server.answer("GET", ASSETS, whole(everything[:18], total=20))
    await run(rt, full=True)
    known = await complete(rt)
    assert (known.source, known.here, known.state) == (20, 20, "agrees")  # all of them are here
    server.answer("GET", ASSETS, whole(everything, total=25))
    await run(rt, full=True)
    known = await complete(rt)
    assert (known.source, known.here, known.state) == (25, 20, "differs")
    assert known.agreed_at is not None
    assert known.compared_at is not None
    assert agreed_at < known.agreed_at < known.compared_at
    assert "| 25 | 20 | 🔴 differs |" in await artifact(rt)
    seen = (await glance(rt.store, await rt.configuration(), now=utcnow())).as_json()["records"]
    assert seen["states"] == {"agrees": 0, "differs": 1, "unknown": 0}
    assert [(each["source"], each["here"]) for each in seen["entities"]] == [(25, 20)]


def _too_many(everything: list[dict[str, Any]]) -> Any:
    return whole(everything, total=15)


def _keyless(everything: list[dict[str, Any]]) -> Any:
    bare = [{"name": "no key"}] * 3
    return whole([*everything[:17], *bare], total=20)


def _null(everything: list[dict[str, Any]]) -> Any:
    entries: list[Any] = [*everything[:17], None, "record", *everything[19:]]
    return whole(entries, total=20)


@pytest.mark.parametrize("listing", [_too_many, _keyless, _null])
async def test_a_lasting_disagreement_is_an_incident_whichever_way_it_is(
    rt: Runtime,
    server: Any,
    listing: Callable[[list[dict[str, Any]]], Callable[[Request], Response]],
) -> None:
    everything = assets(20)
    server.answer("GET", ASSETS, listing(everything))
    await run(rt)
    assert await open_incidents(rt) == []  # once may be a busy moment
    await run(rt, full=True)
    assert await open_incidents(rt) == ["entity_inconsistent"]
    server.answer("GET", ASSETS, whole(everything))
    await run(rt, full=True)
    assert await open_incidents(rt) == []
    assert (await complete(rt)).state == "agrees"


async def test_what_cant_be_known_is_said_to_be_so(rt: Runtime, server: Any) -> None:
    everything = assets(20)

    def without_total(request: Request) -> Response:
        answer = page(everything, 1, 1, 20)
        assert isinstance(answer, JSONResponse)
        return JSONResponse({"data": everything, "meta": {"current_page": 1, "last_page": 1}})

    server.answer("GET", ASSETS, without_total)
    await run(rt)
    known = await complete(rt)
    assert (known.state, known.unknown, known.here) == ("unknown", ("no_total",), 20)
    server.answer("GET", ASSETS, lambda _: JSONResponse({"message": "forbidden"}, 403))
    await run(rt)
    known = await complete(rt)
    assert known.unknown == ("no_total", "failing")
    assert "the source says no total; it can't be read at present" in await artifact(rt)
