"""A form shows the same however it was deployed: what Prefect itself reads is what we deploy."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema

ROOT = Path(__file__).parents[2]
ENTRYPOINTS = {
    entry["name"]: str(ROOT / entry["entrypoint"])
    for entry in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
}


@pytest.mark.parametrize("name", sorted(ENTRYPOINTS))
def test_prefects_own_schema_has_a_title_and_a_description_of_every_field(name: str) -> None:
    flow: Any = load_flow_from_entrypoint(ENTRYPOINTS[name], use_placeholder_flow=False)
    own = parameter_schema(flow).model_dump(mode="json", exclude_unset=True)
    for field, shown in own["properties"].items():
        assert shown.get("description"), f"{name}: {field} has no description"
        assert shown["title"] != field, f"{name}: {field} has no title"
    required = (
        {
            parameter
            for parameter, shown in flow.fn.__signature__.parameters.items()
            if shown.default.is_required()
        }
        if own["properties"]
        else set()
    )
    assert set(own.get("required", ())) == required
