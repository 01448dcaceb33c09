"""A project of a few deployments: what is promised of each is tested with these, in a moment."""

from collections.abc import Iterator
from typing import Any

import pytest

from tasks.prefect_adapter import project

FEW = {"adopt", "digest", "health-sweep", "housekeeping", "reconcile", "reconnect"}


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Of `prefect.yaml` only these are deployed; a test deploys all of it."""
    read = project.wanted_deployments

    async def wanted(*given: Any, **more: Any) -> list[project.Wanted]:
        return [deployment for deployment in await read(*given, **more) if deployment.name in FEW]

    with monkeypatch.context() as patch:
        patch.setattr(project, "wanted_deployments", wanted)
        yield
