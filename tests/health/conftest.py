"""A sandbox's fleet and a runtime on each database."""

from collections.abc import AsyncIterator

import pytest

import sandbox
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from tests.managed import managed


@pytest.fixture
async def fleet() -> AsyncIterator[sandbox.Served]:
    """A Makini with twelve connections in which nothing happens by itself."""
    settings = sandbox.Settings(port=0, connections=12, scenario="quiet", per_minute=0)
    async with sandbox.serving(settings) as serving:
        yield serving


@pytest.fixture
async def rt(settings: Settings, store: Store, fleet: sandbox.Served) -> AsyncIterator[Runtime]:
    """A runtime that manages the sandbox's fleet."""
    async with Runtime.open(managed(settings, fleet.url)) as runtime:
        yield runtime


@pytest.fixture
async def watcher(rt: Runtime) -> AsyncIterator[Runtime]:
    """The same fleet, with nothing at Makini to be changed or read."""
    observing = rt.settings.model_copy(update={"makini_mode": "observe"})
    async with Runtime.open(observing) as runtime:
        yield runtime
