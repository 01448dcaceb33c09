"""A reconcile that could not read what it was to read is green only where people know of that."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from starlette.responses import JSONResponse

from flows.reconcile import reconcile
from linekeeper.clock import utcnow
from linekeeper.makini import MakiniError
from linekeeper.reconcile import pages
from linekeeper.reconcile.due import PollOrder
from linekeeper.reconcile.run import reconcile as read
from linekeeper.reconcile.run import with_window
from linekeeper.reconcile.unread import find_unread
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.sweep.app import list_failed
from linekeeper.sweep.sweep import take_list
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import Running, on, on_both
from tests.makini.peer import Peer
from tests.reconcile.answering import ASSETS, asset, server, with_one_connection
from tests.reconcile.conftest import adopt, pointed_at

__all__ = ["server"]
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
STATUS = "/api/integrations/current"


@pytest.fixture
async def rt(
    running: Running,
    settings: Settings,
    store: Store,
    server: Peer,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Runtime]:
    """A fleet of one connection with one entity, which the flows read, too."""
    with_one_connection(server)
    server.answer("GET", STATUS, {"data": {"id": "k1", "sync_status": "done"}})
    server.answer("GET", ASSETS, {"data": [asset("1")], "meta": {"last_page": 1, "total": 1}})
    monkeypatch.setattr(pages, "TRIES_A_PAGE", 1)
    for name, value in {
        "API_URL": server.url,
        "CLIENT_ID": "sandbox-client",
        "CLIENT_SECRET": "sandbox-secret",
        "MODE": "manage",
        "PER_MINUTE": "0",
        "ENTITIES": "eam/assets",
    }.items():
        monkeypatch.setenv(f"LINEKEEPER_MAKINI_{name}", value)
    managed = pointed_at(settings, server.url, makini_entities=("eam/assets",))
    async with Runtime.open(managed) as opened:
        await adopt(opened)
        yield opened


@on_both
async def test_reads_that_time_out_are_red_until_an_incident_says_so_whoever_read_before(
    rt: Runtime, server: Peer, running: Running, clean_prefect: PrefectServer
) -> None:
    assert not (await read(rt)).failures
    server.answer("GET", ASSETS, lambda _: JSONResponse({"message": "Too slow."}, 408))
    assert (await read(rt)).failures  # of which no run and no incident said anything
    ends = []
    with on(clean_prefect):
        for _ in range(2):
            state = await reconcile(return_state=True)
            ends.append((state.name, (await running.last()).name))
        order = await with_window(rt.store, PollOrder(utcnow()))
        scheduled = await find_unread(rt, order, [])
        server.answer("GET", ASSETS, {"data": [asset("1")], "meta": {"last_page": 1, "total": 1}})
        well = await reconcile(return_state=True)
    assert ends == [
        ("Failed", "reconcile · 0 read, 1 newly not readable"),
        ("Completed", "reconcile · 0 read, 1 known not readable"),
    ]
    assert (list(scheduled.news), scheduled.known) == ([], 1)  # it waits, and is not well
    assert (well.name, (await running.last()).name) == ("Completed", "reconcile · 1 read")


async def ends_of(
    runs: int, running: Running, prefect: PrefectServer
) -> list[tuple[str | None, str]]:
    """How so many runs by hand end, and what they call themselves."""
    ends = []
    with on(prefect):
        for _ in range(runs):
            state = await reconcile(return_state=True)
            ends.append((state.name, (await running.last()).name))
    return ends


@on_both
@pytest.mark.repeats(
    "flows/test_unread.py::test_reads_that_time_out_are_red_until_an_incident_says_so_whoever_read_before"
)
async def test_a_connection_that_makini_always_rate_limits_is_red_until_an_incident_says_so(
    rt: Runtime, server: Peer, running: Running, clean_prefect: PrefectServer
) -> None:
    assert not (await read(rt)).failures
    server.answer("GET", ASSETS, lambda _: JSONResponse({"message": "Too many."}, 429))
    assert await ends_of(3, running, clean_prefect) == [
        ("Failed", "reconcile · 0 read, 1 newly not readable"),
        ("Failed", "reconcile · 0 read, 1 newly not readable"),
        ("Completed", "reconcile · 0 read, 1 known not readable"),
    ]


@on_both
async def test_what_everybody_sees_or_an_incident_of_the_app_says_already_is_not_red(
    rt: Runtime, server: Peer, running: Running, clean_prefect: PrefectServer
) -> None:
    def refuse(status: int) -> Callable[[Any], JSONResponse]:
        return lambda _: JSONResponse({"message": "No."}, status)

    server.answer("POST", "/api/system/connections/k1/token", refuse(403))  # mints none
    known = ("Completed", "reconcile · 0 read, 1 known not readable")
    assert await ends_of(1, running, clean_prefect) == [known]
    server.answer("POST", "/link/token", refuse(401))  # the app's own login
    new = ("Failed", "reconcile · 0 read, 1 newly not readable")
    assert await ends_of(1, running, clean_prefect) == [new]
    async with Runtime.open(rt.settings) as asking:
        app = await asking.app("default")
        with pytest.raises(MakiniError) as refused:
            await take_list(asking, app, now=utcnow())
        await list_failed(rt.store, app, refused.value, now=utcnow())
    assert await ends_of(1, running, clean_prefect) == [known]
