"""A cut-over of 300 connections, ten first, and the way back out, with the product calling."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from sqlmodel import select

import sandbox
from linekeeper.access.custody import return_tokens
from linekeeper.access.expiry import renew_ending
from linekeeper.access.keys import make_key
from linekeeper.access.modes import StillRenewed, WantedMode, change, find_subjects, preview_change
from linekeeper.clock import utcnow
from linekeeper.receiver import serve
from linekeeper.reconcile.run import reconcile
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store.tables import Connection
from linekeeper.sweep.batch import probe_batch
from linekeeper.sweep.sweep import due, take_list
from tests.answering import answering

from .cut_over import Product

FLEET = 300


@dataclass(slots=True)
class Moving:
    """Linekeeper in `observe` beside the product, and what an operator does."""

    rt: Runtime
    product: Product

    async def rounds(self) -> None:
        """What the schedules do: sweep, renew, reconcile; the product goes on meanwhile."""
        rt, app = self.rt, await self.rt.app("default")
        started = utcnow()
        await take_list(rt, app, now=started)
        policy = (await rt.configuration()).policy
        for ids in (await due(rt, app, policy, now=started)).batches:
            await probe_batch(rt, app, ids, started=started, last_try=True)
        await renew_ending(rt, now=utcnow())
        await reconcile(rt, entities=["eam/sites"])
        await self.product.called_all()

    async def tokens(self, keys: Sequence[str], *, whole: bool) -> None:
        """Lend the access tokens of `keys`, or hand over the pairs, which end soon."""
        product = self.product
        product.still |= set(keys)
        entries: list[dict[str, Any]] = []
        soon = (utcnow() + timedelta(days=3)).isoformat()
        for key in keys:
            pair = product.pairs[key]
            entry = {"connection": key, "access_token": pair.access, "expires_at": soon}
            entries.append({**entry, "refresh_token": pair.refresh} if whole else entry)
        answer = await product.linekeeper.post(
            "/api/tokens", json={"tokens": entries}, headers=product.key, timeout=120
        )
        results = answer.json()["results"]
        assert {r["custody"] for r in results} == {"owned" if whole else "borrowed"}, results
        if whole:
            product.handed |= set(keys)
        product.still -= set(keys)

    async def set(self, mode: str, keys: Sequence[str] = (), *, dry: bool = False) -> Any:
        apps = () if keys else ("default",)
        wanted = WantedMode(await find_subjects(self.rt, connections=keys, apps=apps), mode)
        if dry:
            return await preview_change(self.rt, wanted, now=utcnow())
        return await change(self.rt, wanted, by="anna", now=utcnow())

    async def give_back(self, keys: Sequence[str]) -> None:
        async with self.rt.store.read() as session:
            rows = {row.makini_key: row for row in await session.scalars(select(Connection))}
        world = self.product.makini.world
        for key in keys:
            given = await return_tokens(self.rt, rows[key], by="anna", now=utcnow())
            assert given is not None
            pair = world.tokens.current(world.connections[key])
            assert pair is not None
            assert (pair.access, pair.refresh) == (given["access_token"], given["refresh_token"])
            self.product.pairs[key] = pair
            self.product.handed.discard(key)

    def renewals(self) -> tuple[int, int]:
        calls = self.product.makini.world.calls
        minted = calls["POST", "/api/system/connections/{key}/token"]
        return minted, calls["GRANT", "refresh_token"]

    def well(self) -> None:
        """No call of the product has failed, and no token of its own has died under it."""
        assert self.product.failed == []
        assert self.product.dead == []


@pytest.mark.soak
async def test_three_hundred_connections_go_in_and_come_out_again(settings: Settings) -> None:
    box = sandbox.Settings(port=0, connections=FLEET, records_per_connection=3)
    async with sandbox.serving(box) as makini:
        observing = settings.model_copy(
            update={
                "makini_api_url": makini.url,
                "makini_client_id": box.client_id,
                "makini_client_secret": SecretStr(box.client_secret),
                "makini_mode": "observe",
                "makini_per_minute": 0,
                "probe_minutes": 0,
                "receiver_port": 0,
            }
        )
        async with Runtime.open(observing) as rt:
            async with rt.store.write() as session:
                key = await make_key(session, "product", (), by="tests", now=utcnow())
            with serve.listening(observing) as listener:
                url = serve.address(listener)
                async with (
                    answering(rt, listener),
                    httpx.AsyncClient(base_url=url, timeout=120) as http,
                ):
                    headers = {"Authorization": f"Bearer {key}"}
                    product = Product(makini, http, headers)
                    product.log_in()
                    async with product.calling():
                        await in_and_out(Moving(rt, product))


async def in_and_out(moving: Moving) -> None:
    everything = sorted(moving.product.pairs)
    ten, rest = everything[:10], everything[10:]
    await moving.rounds()
    await moving.tokens(everything, whole=False)
    await moving.rounds()
    assert moving.renewals() == (0, 0)
    moving.well()

    seen = await moving.set("manage", ten, dry=True)
    assert (len(seen.to_manage), seen.renewed, seen.minted, seen.people) == (10, [], [], [])
    await moving.set("manage", ten)
    await moving.rounds()
    assert moving.renewals() == (0, 0)
    await moving.tokens(ten, whole=True)
    await moving.rounds()
    assert moving.renewals() == (0, 10)
    moving.well()

    seen = await moving.set("manage", dry=True)
    assert (len(seen.to_manage), seen.renewed, seen.minted) == (FLEET - 10, [], [])
    await moving.set("manage")
    await moving.tokens(rest, whole=True)
    await moving.rounds()
    assert moving.renewals() == (0, FLEET)
    moving.well()

    for keys in (ten, rest):
        with pytest.raises(StillRenewed):
            await moving.set("observe", keys)
        await moving.give_back(keys)
        await moving.set("observe", keys)
        await moving.rounds()
        moving.well()
    assert moving.product.handed == set()
    assert moving.renewals() == (0, FLEET)
    tokens, connections = (
        moving.product.makini.world.tokens,
        moving.product.makini.world.connections,
    )
    for each in everything:
        assert tokens.current(connections[each]) == moving.product.pairs[each]
