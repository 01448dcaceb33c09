"""docs/where.md has every form, and every deployment leads to the pages of all connections."""

from typing import Any

import yaml

from tests.docs.test_commands import ROOT

PAGES = ("connections", "fleet")


def deployments() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    return found


def test_every_form_is_on_the_page_of_addresses() -> None:
    where = (ROOT / "docs/where.md").read_text()
    forms = [each["name"] for each in deployments() if "internal" not in each["tags"]]
    assert [name for name in forms if f"`{name}`" not in where] == []


def test_every_deployment_leads_to_the_pages_in_one_click() -> None:
    for each in deployments():
        for page in PAGES:
            assert f"](../../artifacts/key/{page})" in each["description"], (each["name"], page)
