"""A Makini with one connection whose tokens rotate, and which may take its time to say so.

Refreshing and logging in kill the pair before; it mints nothing, so that a pair that was not stored
is lost for good and seen to be.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qs

import pytest
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from linekeeper.clock import utcnow
from linekeeper.customers.adopt import adopt
from linekeeper.makini import ListedConnection, TokenPair
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.tokens.stored import StoredPair, load_pair, save_tokens
from tests.makini.peer import Peer, PeerServer

LISTED = {
    "key": "k1", "id": "k1", "name": "Acme - UpKeep", "status": "Active",
    "integration_name": "UpKeep", "email": "it@acme.example",
}  # fmt: skip


class Rotating:
    """The connection `k1`; `number` is that of the pair that lives."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.number = 1
        self.refreshed = 0
        self.dead = 0
        """Refreshes that were tried with a token that a newer pair had killed."""
        self.refusals = 0
        """How many of the next refreshes it refuses by mistake."""
        self.rotated = threading.Event()
        """Set once a refresh has killed the old pair, before its answer leaves."""
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.status_fails = 0
        """The HTTP status with which the status call fails; 0: it answers."""
        self.status_asks_for: float | None = None
        """The pause, in seconds, that it asks for then."""
        self.status_calls = 0
        self.is_silent = False
        """The status call has no answer."""
        self.leaves_alive = False
        """A login leaves the pairs before it alive."""
        self.ended = 0
        """The number of the pair whose access token has ended early."""
        peer.reset()
        peer.answer("POST", "/link/token", self._token)
        peer.answer("GET", "/api/integrations/current", self._status)
        peer.answer("GET", "/api/system/connections", {"data": [LISTED]})
        peer.answer("DELETE", "/api/system/connections/k1", lambda _: Response(status_code=204))
        refusal = {"code": "FORBIDDEN", "message": "no"}
        peer.answer(
            "POST", "/api/system/connections/k1/token", lambda _: JSONResponse(refusal, 403)
        )

    def pair(self) -> TokenPair:
        return TokenPair(f"a{self.number}", f"r{self.number}", utcnow(), minted=False)

    async def _token(self, request: Request) -> Response:
        body = await request.body()
        if body.startswith(b"{"):
            return JSONResponse({"access_token": "admin", "expires_in": 3600})
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        if form["grant_type"] == "refresh_token":
            self.refreshed += 1
            if self.refusals:
                self.refusals -= 1
                return JSONResponse({"code": "AUTHENTICATION_FAILED", "message": "no"}, 401)
            if form["refresh_token"] != f"r{self.number}":
                self.dead += 1
                return JSONResponse({"code": "AUTHENTICATION_FAILED", "message": "dead"}, 401)
        self.number += 1
        answer = {
            "access_token": f"a{self.number}",
            "refresh_token": f"r{self.number}",
            "expires_in": 2_592_000,
        }
        if form["grant_type"] == "refresh_token":
            self.rotated.set()
            await asyncio.to_thread(self.may_answer.wait, 30)
        return JSONResponse(answer)

    async def _status(self, request: Request) -> Response:
        self.status_calls += 1
        if self.is_silent:
            await asyncio.sleep(30)
        if self.status_fails:
            pause = self.status_asks_for
            headers = {} if pause is None else {"retry-after": f"{pause:.0f}"}
            return JSONResponse({"message": "no"}, self.status_fails, headers)
        is_newest = request.headers["authorization"] == f"Bearer a{self.number}"
        is_alive = is_newest and self.number != self.ended
        if not is_alive and not self.leaves_alive:
            return JSONResponse({"code": "AUTHENTICATION_FAILED", "message": "dead"}, 401)
        data = {
            "id": "k1", "company_name": "Acme", "email": "it@acme.example", "provider": "upkeep",
            "sync_status": "done",
        }  # fmt: skip
        return JSONResponse({"data": data})

    async def has_rotated(self) -> None:
        """Wait until a refresh has killed the old pair and its answer is on its way."""
        assert await asyncio.to_thread(self.rotated.wait, 30)


@pytest.fixture(scope="module")
def rotating_server() -> Iterator[Peer]:
    server = PeerServer()
    yield server.start()
    server.stop()


@pytest.fixture
def rotating(rotating_server: Peer) -> Iterator[Rotating]:
    makini = Rotating(rotating_server)
    yield makini
    makini.may_answer.set()


@pytest.fixture
def managed(settings: Settings, rotating: Rotating) -> Settings:
    """Settings of an app in `manage` at that Makini."""
    return settings.model_copy(
        update={
            "makini_api_url": rotating.peer.url,
            "makini_link_url": rotating.peer.url,
            "makini_client_id": "client",
            "makini_client_secret": SecretStr("secret"),
            "makini_mode": "manage",
            "makini_per_minute": 0,
            "public_url": "http://127.0.0.1:1",
        }
    )


@asynccontextmanager
async def with_k1(managed: Settings, rotating: Rotating) -> AsyncIterator[tuple[Runtime, str]]:
    """A runtime in which `k1` has the pair that lives; and the connection's id."""
    async with Runtime.open(managed) as rt:
        listed = ListedConnection(
            key="k1", id="k1", name="Acme - UpKeep", provider="UpKeep", email="it@acme.example",
            status="Active",
        )  # fmt: skip
        async with rt.store.write() as session:
            adopted = await adopt(rt.store, session, "default", [listed], now=utcnow())
            identifier = adopted.ids["k1"]
            await save_tokens(rt.store, session, {identifier: rotating.pair()}, now=utcnow())
        yield rt, identifier


async def pair_of(store: Store, identifier: str) -> StoredPair | None:
    async with store.read() as session:
        return await load_pair(store, session, identifier)
