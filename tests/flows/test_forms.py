"""A form shows the same however it was deployed: what Prefect itself reads is what we deploy."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import build_error_obj, validate

from tasks.prefect_adapter.project import CLOSED, wanted_deployments

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
    optional = {
        parameter.name
        for parameter in inspect.signature(flow.fn).parameters.values()
        if parameter.default is not parameter.empty
    }
    assert {*own["properties"]} - {*own.get("required", ())} == optional


async def test_what_can_be_chosen_for_a_field_is_in_one_list() -> None:
    for wanted in await wanted_deployments():
        for field, shown in wanted.parameter_schema["properties"].items():
            kinds = [each for each in shown.get("anyOf", ()) if each != {"type": "null"}]
            assert len(kinds) <= 1, f"{wanted.name}: {field} is offered in {len(kinds)} lists"


async def test_what_we_deploy_is_prefects_own_schema_closed() -> None:
    for wanted in await wanted_deployments():
        flow: Any = load_flow_from_entrypoint(ENTRYPOINTS[wanted.name], use_placeholder_flow=False)
        own = parameter_schema(flow).model_dump(mode="json", exclude_unset=True)
        assert wanted.parameter_schema == own | CLOSED


async def test_the_dates_of_a_start_are_picked_and_what_is_needed_is_required() -> None:
    [wanted] = [each for each in await wanted_deployments() if each.name == "implementation"]
    shown = wanted.parameter_schema
    assert {*shown["required"]} == {"customer", "systems", "kickoff", "by"}
    day = {"type": "string", "format": "date"}
    assert shown["properties"]["kickoff"].items() >= day.items()
    assert shown["properties"]["committed"]["anyOf"] == [day, {"type": "null"}]
    faults = build_error_obj(validate({"customer": "", "kickoff": "soon"}, shown))
    marked = {fault["property"] for fault in faults["errors"]}
    assert marked == {"customer", "systems", "kickoff", "by"}  # all at once, before a run is made


async def test_a_system_has_no_field_that_is_not_known() -> None:
    [wanted] = [each for each in await wanted_deployments() if each.name == "implementation"]
    systems = [{"name": "SAP ECC", "teir": "III"}]
    [fault] = validate({"systems": systems}, wanted.parameter_schema, ignore_required=True)
    assert fault.message == "Additional properties are not allowed ('teir' was unexpected)"
