"""docs/where.md has every form, and every deployment leads to the pages of all connections."""

from typing import Any

import yaml

from tests.docs.test_commands import ROOT

PAGES = ("connections", "fleet", "availability")
PROMISED = {
    *("health-sweep", "reconcile", "process-webhooks", "refresh-tokens"),
    *("advance-implementations", "preflight", "digest", "housekeeping"),
    *("authentication-setup", "workflow-configuration", "implementation", "gate"),
    *("implementation-change", "implementation-skip", "implementation-abandon"),
    *("adopt", "connect", "check-connection", "reconnect", "disconnect", "mode"),
    *("replay-webhooks", "acknowledge", "maintenance-window", "customer-update"),
    *("import-customers", "explain", "verify-account", "doctor", "deletions", "credits"),
}
"""What outside programs call by name."""
ADDED = {"mode"}
"""What came later, and is a form because it has no place in another one."""
BY_ITSELF = {
    *("process-webhooks", "refresh-tokens", "advance-implementations", "housekeeping", "gate"),
}
MOST = 26
"""How many deployments are a person's to choose from."""


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


def test_the_deployments_are_those_promised_and_a_person_chooses_from_few() -> None:
    tags = {each["name"]: each["tags"] for each in deployments()}
    assert set(tags) == PROMISED | ADDED
    assert {name for name in tags if "internal" in tags[name]} == BY_ITSELF
    assert len(set(tags) - BY_ITSELF) <= MOST
    assert all("linekeeper" in each for each in tags.values())


def test_a_newcomer_is_led_and_the_two_ways_to_a_login_are_told_apart() -> None:
    said = {each["name"]: each["description"] for each in deployments()}
    assert [each["name"] for each in deployments() if "start-here" in each["tags"]] == ["doctor"]
    assert said["doctor"].startswith("**Start here**")
    assert said["connect"].startswith("**A new link**")
    assert said["reconnect"].startswith("**A lost login**")
    muting = {name for name, words in said.items() if "*mute*" in words}
    assert muting == {"maintenance-window"}
