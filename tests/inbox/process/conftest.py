"""A sandbox's adopted fleet, a product that listens, and a runtime on each database."""

from collections.abc import AsyncIterator
from dataclasses import astuple, replace

import pytest
from pydantic import SecretStr

import sandbox
from linekeeper.clock import utcnow
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.sweep.batch import probe_batch
from linekeeper.sweep.sweep import due, take_list
from tests.adopted import adopt_once
from tests.inbox.process.product import SECRET, Product, listening
from tests.inbox.process.stage import Stage
from tests.managed import managed

FLEET = sandbox.Settings(
    connections=6, records_per_connection=80, per_minute=0, port=0, mint_shape="pair"
)
"""Six connections in which nothing happens by itself."""


async def adopt(rt: Runtime) -> None:
    """Adopt and probe the fleet."""
    app = await rt.app("default")
    now = utcnow()
    await take_list(rt, app, now=now)
    policy = (await rt.configuration()).policy
    for ids in (await due(rt, app, policy, now=now)).batches:
        await probe_batch(rt, app, ids, started=now, last_try=True)


@pytest.fixture
async def fleet() -> AsyncIterator[sandbox.Served]:
    """The fleet's Makini."""
    async with sandbox.serving(replace(FLEET)) as serving:
        yield serving


@pytest.fixture
async def product() -> AsyncIterator[Product]:
    """The operator's product: takes what is handed on and verifies it."""
    async with listening() as product:
        yield product


@pytest.fixture
async def stage(
    settings: Settings, fleet: sandbox.Served, product: Product
) -> AsyncIterator[Stage]:
    """A fleet that is adopted, probed and well; what is accepted is handed on to `product`."""
    forwards = {"forward_url": product.url, "forward_secret": SecretStr(SECRET)}
    async with Runtime.open(managed(settings, fleet.url, **forwards)) as rt:
        await adopt_once(astuple(FLEET), rt.store, fleet.world, lambda: adopt(rt))
        yield await Stage.set(rt, fleet, product)
