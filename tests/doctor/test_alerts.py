"""What the doctor says of how incidents are told."""

import subprocess
import sys
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr

from linekeeper.clock import utcnow
from linekeeper.config import AlertPolicy, Configuration, SlackConfig
from linekeeper.doctor.finding import worst
from linekeeper.doctor.notices import examine_alerts
from linekeeper.notify.channels import SOCKET, mark_broken, mark_well
from linekeeper.notify.evaluate import targets
from linekeeper.notify.refusals import refused
from linekeeper.store import Store

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
SLACK = SlackConfig(bot_token=SecretStr("xoxb-1"), channel="#line")


async def test_a_channel_that_takes_nothing_is_named_until_it_does(store: Store) -> None:
    now = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
    for code in ("not_in_channel", "is_archived"):
        async with store.write() as session:
            trouble = str(refused(code))
            await mark_broken(store, session, "slack", trouble, needs_fix=True, now=now)
    [found] = await examine_alerts(store, Configuration(slack=SLACK))
    assert found.text == (
        "takes nothing since 2026-03-04 12:00 UTC: Slack refuses: is_archived: "
        "unarchive the channel, or name another in the SlackChannel block"
    )
    assert found.fix.startswith("do so")
    async with store.write() as session:
        await mark_well(session, "slack")
    [found] = await examine_alerts(store, Configuration(slack=SLACK))
    assert found.level == "ok"


async def test_a_channel_that_was_taken_out_of_the_settings_is_no_trouble(store: Store) -> None:
    """To take it out is what an operator does about it."""
    [target] = targets([SecretStr("json://h/")])
    async with store.write() as session:
        for name in ("slack", "slack plant", f"elsewhere {target}", SOCKET):
            await mark_broken(store, session, name, "is gone", needs_fix=True, now=utcnow())
    other = AlertPolicy(elsewhere=(SecretStr("json://other/"),))
    found = await examine_alerts(store, Configuration(alerts=other))
    assert [(each.name, each.level) for each in found] == [("alerts", "ok")]


async def test_urls_and_policies_that_make_no_sense_are_named_without_secrets(
    store: Store,
) -> None:
    alerts = AlertPolicy(elsewhere=(SecretStr("nonsense://secret"), SecretStr("json://h/")))
    [found] = await examine_alerts(store, Configuration(slack=SLACK, alerts=alerts))
    assert found.text == "Apprise can't read the URL nonsense://…"
    contradicting = AlertPolicy(remind_hours=30)
    [found] = await examine_alerts(store, Configuration(slack=SLACK, alerts=contradicting))
    assert "shorter than the first" in found.text


def test_what_apprise_can_not_read_is_not_logged_either() -> None:
    """In the process of a flow, where Prefect prints what libraries log."""
    said = subprocess.run(
        [sys.executable, "-c", _LOOKS], capture_output=True, text=True, timeout=60, check=True
    )
    assert "can't read the URL nonsense://…" in said.stdout
    assert "s3cret" not in said.stdout + said.stderr


_LOOKS = """
from prefect.logging.configuration import setup_logging
setup_logging()
from linekeeper.doctor.notices import readable
print(readable("nonsense://s3cret").text)
"""


async def test_where_nobody_would_hear_it_says_so(store: Store) -> None:
    assert worst(await examine_alerts(store, Configuration())) == "warn"


async def test_where_incidents_go_is_said_in_words_people_know(store: Store) -> None:
    alerts = AlertPolicy(elsewhere=(SecretStr("json://h/"),), quiet_hours="22:00-06:00")
    found = {each.name: each for each in await examine_alerts(store, Configuration(slack=SLACK))}
    assert found["alerts"].text == "incidents go to Slack; no quiet hours"
    both = Configuration(slack=SLACK, alerts=alerts)
    found = {each.name: each for each in await examine_alerts(store, both)}
    assert found["alerts"].text == (
        "incidents go to Slack and 1 other channel; quiet hours 22:00-06:00 (UTC)"
    )


async def test_whether_the_socket_is_connected_is_said(store: Store) -> None:
    slack = SlackConfig(
        bot_token=SecretStr("xoxb-1"), channel="#line", app_token=SecretStr("xapp-1")
    )
    configuration = Configuration(slack=slack)
    found = {each.name: each for each in await examine_alerts(store, configuration)}
    assert found[f"alerts · {SOCKET}"].level == "ok"
    text = "Slack's Socket Mode is not connected: check the app token"
    async with store.write() as session:
        await mark_broken(store, session, SOCKET, text, needs_fix=True, now=utcnow())
    found = {each.name: each for each in await examine_alerts(store, configuration)}
    assert found[f"alerts · {SOCKET}"].level == "wrong"
    assert "check the app token" in found[f"alerts · {SOCKET}"].text
