"""A sandbox's fleet, a runtime and a receiver on each database."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import astuple, dataclass
from typing import Any

import httpx
import pytest
from sqlalchemy import select
from sqlmodel import col

import sandbox
from linekeeper.access.keys import make_key
from linekeeper.clock import utcnow
from linekeeper.receiver import serve
from linekeeper.reconcile.run import reconcile
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.tables import Connection, Incident
from linekeeper.sweep.batch import probe_batch
from linekeeper.sweep.sweep import due, take_list
from tests.adopted import adopt_once
from tests.answering import answering
from tests.managed import managed


@dataclass(slots=True)
class House:
    """Linekeeper with its receiver, beside a Makini."""

    rt: Runtime
    fleet: sandbox.Served
    http: httpx.AsyncClient
    """At the receiver."""
    makini: httpx.AsyncClient
    """At the sandbox."""

    @property
    def store(self) -> Store:
        return self.rt.store

    async def sweep(self) -> None:
        app = await self.rt.app("default")
        policy = (await self.rt.configuration()).policy
        started = utcnow()
        await take_list(self.rt, app, now=started)
        for ids in (await due(self.rt, app, policy, now=started)).batches:
            await probe_batch(self.rt, app, ids, started=started, last_try=True)

    async def adopt_and_read(self) -> None:
        await self.sweep()
        await reconcile(self.rt)

    async def control(self, path: str, **body: Any) -> Any:
        answer = await self.makini.post(f"/_control/{path}", json=body)
        assert answer.status_code < 300, answer.text
        return answer.json()

    async def connections(self) -> list[Connection]:
        async with self.store.read() as session:
            return list(await session.scalars(select(Connection).order_by(col(Connection.id))))

    async def connection(self, identifier: str) -> Connection:
        async with self.store.read() as session:
            return await session.get_one(Connection, identifier)

    async def incidents(self) -> list[Incident]:
        async with self.store.read() as session:
            return list(await session.scalars(select(Incident).order_by(col(Incident.id))))

    async def rows(self, table: Any, *where: Any) -> list[Any]:
        async with self.store.read() as session:
            return list(await session.scalars(select(table).where(*where)))

    async def key(self, *scopes: str, name: str = "product") -> dict[str, str]:
        """Headers with a new key."""
        async with self.store.write() as session:
            made = await make_key(session, name, scopes, by="tests", now=utcnow())
        return {"Authorization": f"Bearer {made}"}

    async def lose_login(self, connection: Connection) -> None:
        await self.control(f"connections/{connection.makini_key}/change-credentials")
        await self.sweep()

    async def restore_login(self, connection: Connection) -> None:
        await self.control(f"connections/{connection.makini_key}/restore-credentials")
        await self.sweep()


@pytest.fixture
async def open_house(
    settings: Settings, store: Store
) -> AsyncIterator[Callable[..., Awaitable[House]]]:
    """Opens a house with the settings given, `makini` being the sandbox's; closed at the end.

    Its connections are adopted and well; where it `is_read`, so are their records.
    """
    from contextlib import AsyncExitStack

    async with AsyncExitStack() as stack:

        async def opened(
            *,
            connections: int = 6,
            makini: Mapping[str, Any] | None = None,
            is_read: bool = False,
            **more: Any,
        ) -> House:
            box = sandbox.Settings(
                **{
                    "port": 0,
                    "connections": connections,
                    "records_per_connection": 20,
                    **(makini or {}),
                }
            )
            fleet = await stack.enter_async_context(sandbox.serving(box))
            ours = {"makini_link_url": fleet.url, "receiver_port": 0, **more}
            own = managed(settings, fleet.url, **ours)
            listener = stack.enter_context(serve.listening(own))
            own = own.model_copy(update={"public_url": serve.address(listener)})
            rt = await stack.enter_async_context(Runtime.open(own))
            http = await stack.enter_async_context(
                httpx.AsyncClient(base_url=serve.address(listener), verify=False, timeout=60)
            )
            at_makini = await stack.enter_async_context(
                httpx.AsyncClient(base_url=fleet.url, verify=False, timeout=60)
            )
            house = House(rt, fleet, http, at_makini)
            adopt = house.adopt_and_read if is_read else house.sweep
            key = (astuple(box), own.makini_mode, own.forward_url, is_read)
            await adopt_once(key, rt.store, fleet.world, adopt)
            await stack.enter_async_context(answering(rt, listener))
            return house

        yield opened


@pytest.fixture
async def house(open_house: Callable[..., Awaitable[House]]) -> House:
    """In `manage`, every connection adopted and well."""
    return await open_house()
