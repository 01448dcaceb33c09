"""A sandbox's adopted fleet, a product that listens, and a runtime on each database."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr

import sandbox
from linekeeper.clock import utcnow
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.sweep.batch import probe_batch
from linekeeper.sweep.sweep import due, take_list
from sandbox.keeping import load, save
from tests.databases import Engine
from tests.inbox.process.product import SECRET, Product, listening
from tests.inbox.process.stage import Stage
from tests.managed import managed
from tests.together import template_of

FLEET = sandbox.Settings(
    connections=6, records_per_connection=80, per_minute=0, port=0, mint_shape="pair"
)
"""Six connections in which nothing happens by itself; their tokens outlive a run of the tests."""


@pytest.fixture(scope="session")
async def adopted(engine: Engine, migrated: Settings, templates: dict[str, Settings]) -> Settings:
    """A fleet that is adopted, probed and well, to copy from."""
    name = f"adopted-{engine.name}"
    if name not in templates:
        templates[name] = await template_of(engine, "adopted", adopt, migrated)
    return templates[name]


async def adopt(settings: Settings) -> None:
    """Adopt and probe the fleet; what the sandbox knows of it lies beside the database."""
    async with sandbox.serving(FLEET) as fleet, Runtime.open(managed(settings, fleet.url)) as rt:
        app = await rt.app("default")
        now = utcnow()
        await take_list(rt, app, now=now)
        policy = (await rt.configuration()).policy
        for ids in (await due(rt, app, policy, now=now)).batches:
            await probe_batch(rt, app, ids, started=now, last_try=True)
        save(fleet.world, fleet_of(settings))


def fleet_of(adopted: Settings) -> Path:
    """Where the sandbox keeps the fleet of this database."""
    return adopted.home / "fleet"


@pytest.fixture
async def fleet(adopted: Settings) -> AsyncIterator[sandbox.Served]:
    """The adopted fleet's Makini."""
    async with sandbox.serving(FLEET) as serving:
        assert load(serving.world, fleet_of(adopted))
        yield serving


@pytest.fixture
async def product() -> AsyncIterator[Product]:
    """The operator's product: takes what is handed on and verifies it."""
    async with listening() as product:
        yield product


@pytest.fixture
async def stage_settings(
    engine: Engine, adopted: Settings, settings_home: Path
) -> AsyncIterator[Settings]:
    """Settings of a home whose database has adopted the fleet, on each engine."""
    settings = await engine.make(settings_home, template=adopted)
    yield settings
    await engine.drop(settings)


@pytest.fixture
async def stage(
    stage_settings: Settings, fleet: sandbox.Served, product: Product
) -> AsyncIterator[Stage]:
    """A fleet that is adopted, probed and well; what is accepted is handed on to `product`."""
    forwards = {"forward_url": product.url, "forward_secret": SecretStr(SECRET)}
    async with Runtime.open(managed(stage_settings, fleet.url, **forwards)) as rt:
        yield await Stage.set(rt, fleet, product)
