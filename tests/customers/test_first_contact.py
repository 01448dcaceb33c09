"""A company's first day: three hundred customers from a CSV, in `observe`, no write at Makini."""

import httpx
from pydantic import SecretStr
from sqlmodel import col, func, select

import sandbox
from linekeeper.clock import utcnow
from linekeeper.customers.importing import import_customers
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.tables import Connection, Contact, Credential, Customer, Incident
from linekeeper.sweep.batch import probe_batch
from linekeeper.sweep.sweep import due, take_list


async def test_three_hundred_customers_are_adopted_without_one_write_at_makini(
    settings: Settings, store: Store
) -> None:
    box = sandbox.Settings(port=0, connections=300, records_per_connection=0, per_minute=0)
    async with sandbox.serving(box) as fleet, httpx.AsyncClient(base_url=fleet.url) as makini:
        observing = settings.model_copy(
            update={
                "makini_api_url": fleet.url,
                "makini_client_id": box.client_id,
                "makini_client_secret": SecretStr(box.client_secret),
                "makini_mode": "observe",
                "makini_per_minute": 0,
            }
        )
        async with Runtime.open(observing) as rt:
            app, policy = await rt.app("default"), (await rt.configuration()).policy
            started = utcnow()
            await take_list(rt, app, now=started)
            names = {
                connection.customer or connection.name
                for connection in fleet.world.connections.values()
            }
            rows = [f"{name},ops{n}@customer.example,Petra" for n, name in enumerate(sorted(names))]
            csv = "\n".join(["name,contacts,owner", *rows]).encode()
            done = await import_customers(rt.store, csv, by="Petra", now=utcnow())
            assert not done.problems
            for ids in (await due(rt, app, policy, now=started)).batches:
                await probe_batch(rt, app, ids, started=started, last_try=True)
            async with store.read() as session:

                async def count(table: type) -> int:
                    return await session.scalar(select(func.count()).select_from(table)) or 0

                assert await count(Connection) == 300
                assert await count(Customer) == len(names)
                confirmed = select(func.count()).where(col(Contact.confirmed))
                assert await session.scalar(confirmed) == len(names)
                assert await count(Credential) == await count(Incident) == 0
        calls = (await makini.get("/_control/calls")).json()
    assert calls["writes"] == 0, calls
