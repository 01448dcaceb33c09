"""What `up` runs, and what each part is told."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from linekeeper.cli import parts
from linekeeper.cli.parts import PartsChoice
from linekeeper.config import AppConfig
from linekeeper.settings import Settings

NEEDED = PartsChoice(sandbox=None, schedules=True, connections=24, scenario="demo", seed=1)
REAL = AppConfig(api_url="https://api.makini.io")
DEMO = AppConfig(api_url="http://127.0.0.1:9999")


@pytest.mark.parametrize(
    ("asked", "url", "apps", "wanted"),
    [
        (None, None, {}, True),
        (None, None, {"default": DEMO}, True),
        (None, None, {"default": REAL}, False),
        (None, None, {"default": DEMO, "other": REAL}, False),
        (None, "https://api.makini.io", {}, False),
        (True, "https://api.makini.io", {"default": REAL}, True),
        (False, None, {}, False),
    ],
)
def test_the_sandbox_starts_where_no_makini_is_configured(
    asked: bool | None, url: str | None, apps: dict[str, AppConfig], wanted: bool
) -> None:
    choice = PartsChoice(asked, True, 24, "demo", 1)
    assert parts.wants_sandbox(choice, Settings(makini_api_url=url), apps) is wanted


def test_the_demo_has_a_night_the_first_time_it_is_asked_for() -> None:
    now, settings = datetime(2026, 11, 25, 14, 17, 12, tzinfo=UTC), Settings()
    asked = replace(NEEDED, night=True)
    found = parts.night(asked, settings, {}, now=now)
    assert found is not None
    begins, ends = found
    assert (f"{begins:%H:%M:%S}", f"{ends:%H:%M:%S}") == ("14:26:00", "14:30:00")
    box = parts.sandbox_settings(settings, NEEDED)
    quiet = settings.model_copy(update={"quiet_hours": f"{begins:%H:%M}-{ends:%H:%M}"})
    assert parts.environment(quiet, {}, box)["LINEKEEPER_QUIET_HOURS"] == "14:26-14:30"
    assert parts.night(asked, settings, {"default": DEMO}, now=now) is None
    assert parts.night(asked, quiet, {}, now=now) is None
    for other in (NEEDED, replace(asked, schedules=False)):
        assert parts.night(other, settings, {}, now=now) is None


@pytest.mark.parametrize("hours", ["22-7", "25:00-07:00", "07:00-07:00"])
def test_quiet_hours_that_make_no_sense_are_refused(hours: str) -> None:
    with pytest.raises(ValidationError, match="quiet hours: "):
        Settings(quiet_hours=hours)


def test_made_up_trouble_goes_to_the_made_up_slack() -> None:
    settings = Settings(
        slack_bot_token=SecretStr("xoxb-real"),
        slack_channel="ops",
        makini_api_url="https://api.makini.io",
        makini_client_secret=SecretStr("real"),
        sandbox_port=9123,
        forward_url="https://product.real",
        notify_customers=True,
    )
    box = parts.sandbox_settings(settings, NEEDED)
    variables = parts.environment(settings, {}, box)
    assert variables["LINEKEEPER_SLACK_API_URL"] == "http://127.0.0.1:9123/slack/api/"
    assert variables["LINEKEEPER_MAKINI_API_URL"] == "http://127.0.0.1:9123"
    assert variables["LINEKEEPER_MAKINI_MODE"] == "manage"
    assert variables["LINEKEEPER_PROBE_MINUTES"] == "0"
    assert variables["LINEKEEPER_NOTIFY_CUSTOMERS"] == "false"
    assert not any("real" in value for value in variables.values())


def test_what_an_env_file_says_reaches_every_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / ".env"
    file.write_text(
        "LINEKEEPER_MAKINI_WEBHOOK_SECRETS=a,b\nLINEKEEPER_NOTIFY_CUSTOMERS=true\n"
        "LINEKEEPER_HOME=somewhere\n"
    )
    settings = Settings(_env_file=file)
    variables = parts.environment(settings, {}, None)
    assert variables["LINEKEEPER_MAKINI_WEBHOOK_SECRETS"] == "a,b"
    assert variables["LINEKEEPER_NOTIFY_CUSTOMERS"] == "true"
    assert variables["LINEKEEPER_HOME"] == str(Path("somewhere").resolve())
    assert "LINEKEEPER_SLACK_CHANNEL" not in variables


def test_prefect_gets_a_home_and_a_port_of_ours_unless_there_is_one() -> None:
    settings = Settings(prefect_port=4999)
    own = parts.environment(settings, {"PATH": "/bin"}, None)
    assert own["PREFECT_API_URL"] == "http://127.0.0.1:4999/api"
    assert own["PREFECT_HOME"].endswith("/.linekeeper/prefect")
    theirs = parts.environment(settings, {"PREFECT_API_URL": "https://prefect.acme/api"}, None)
    assert theirs["PREFECT_API_URL"] == "https://prefect.acme/api"
    assert "PREFECT_HOME" not in theirs


def test_a_servers_password_is_its_clients_too() -> None:
    variables = parts.environment(Settings(), {"PREFECT_SERVER_API_AUTH_STRING": "admin:pw"}, None)
    assert variables["PREFECT_API_AUTH_STRING"] == "admin:pw"


def test_no_secret_shows_where_a_part_is_shown() -> None:
    child = parts.consumer({"LINEKEEPER_SLACK_BOT_TOKEN": "xoxb-real"})
    assert "xoxb-real" not in repr(child)


def test_a_receiver_that_listens_everywhere_is_asked_on_this_machine() -> None:
    assert Settings(receiver_host="0.0.0.0").local_receiver_url == "http://127.0.0.1:8642"
