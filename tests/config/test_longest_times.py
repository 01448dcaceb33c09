"""Whoever wants *never* types many nines: a time that no date can bear stopped everything."""

import pytest
from pydantic import BaseModel, ValidationError

import sandbox
from linekeeper.clock import utcnow
from linekeeper.config import AlertPolicy, AppConfig, HealthPolicy
from linekeeper.notify.evaluate import evaluate_alerts
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store.configuration import Blocks, save_blocks
from tests.health.conftest import fleet, rt
from tests.health.test_sweep import adopt, connections, control, incidents, sweep

__all__ = ["fleet", "rt"]  # fixtures

NEVER = 99_999_999_999
UNITS = ("_seconds", "_minutes", "_hours", "_days")


@pytest.mark.parametrize("model", [HealthPolicy, AlertPolicy, AppConfig, Settings])
def test_each_time_in_the_settings_has_an_upper_bound(model: type[BaseModel]) -> None:
    times = {
        name
        for name, field in model.model_fields.items()
        if field.annotation in (int, float) and name.endswith(UNITS)
    }
    assert times
    for name in times:
        for value in (NEVER, float("inf")):
            with pytest.raises(ValidationError):
                model.model_validate({name: value})


async def test_of_a_time_that_is_kept_without_one_the_default_counts(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    """It was typed into a block of a version before."""
    await adopt(rt, fleet)
    configuration = await rt.configuration()
    health = HealthPolicy.model_construct(reopen_minutes=NEVER)
    alerts = AlertPolicy.model_construct(escalate_minutes=NEVER)
    blocks = Blocks(apps=list(configuration.apps.values()), policy=health, alerts=alerts)
    await save_blocks(rt.store, blocks, now=utcnow())
    async with Runtime.open(rt.settings) as again:
        [victim, *_] = await connections(again)
        await control(fleet, f"connections/{victim.makini_key}/change-credentials")
        await sweep(again)
        configuration = await again.configuration()
        await evaluate_alerts(again.store, configuration, now=utcnow())
        assert [incident.kind for incident in await incidents(again)] == [
            "reauthorization_required"
        ]
        assert len(configuration.problems) == 2
        assert "reopen_minutes" in str(configuration.problems)
        assert "escalate_minutes" in str(configuration.problems)
