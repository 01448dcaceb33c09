"""A sandbox's fleet and a runtime on each database."""

from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

import sandbox
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store


@pytest.fixture
async def fleet() -> AsyncIterator[sandbox.Served]:
    """A Makini with twelve connections in which nothing happens by itself."""
    settings = sandbox.Settings(port=0, connections=12, scenario="quiet", per_minute=0)
    async with sandbox.serving(settings) as serving:
        yield serving


@pytest.fixture
async def rt(settings: Settings, store: Store, fleet: sandbox.Served) -> AsyncIterator[Runtime]:
    """A runtime that manages the sandbox's fleet."""
    managed = settings.model_copy(
        update={
            "makini_api_url": fleet.url,
            "makini_client_id": "sandbox-client",
            "makini_client_secret": SecretStr("sandbox-secret"),
            "makini_mode": "manage",
            "makini_per_minute": 0,
            "probe_minutes": 0,
        }
    )
    async with Runtime.open(managed) as runtime:
        yield runtime
