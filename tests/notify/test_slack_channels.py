"""Several Slack channels: each incident in the one that fits, and a channel that is away alone."""

import asyncio
import gc
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from linekeeper.clock import utcnow
from linekeeper.config import AlertPolicy, Configuration, SlackConfig
from linekeeper.incidents.announce import said_about
from linekeeper.notify import slack_channel
from linekeeper.notify.policy import decide
from linekeeper.notify.routing import Concerned, RuleSubject, channels_of, check, route
from linekeeper.notify.situations import Reach, Situation
from linekeeper.notify.slack_channel import Pacer
from linekeeper.notify.view import Links
from linekeeper.outbox.queue import Message, Work, enqueue
from linekeeper.outbox.senders.slack import SlackSender
from linekeeper.outbox.senders.slack_delivery import SlackDelivery
from tests.notify.conftest import Desk
from tests.notify.test_deliver import slack_rows


def _channel(desk: Desk, channel: str, **rules: Any) -> SlackConfig:
    assert desk.configuration.slack is not None
    return desk.configuration.slack.model_copy(update={"channel": channel, **rules})


def _with(desk: Desk, **channels: SlackConfig) -> None:
    desk.configuration = desk.configuration.model_copy(update={"slack_channels": channels})


def _of(desk: Desk, channel: str) -> list[dict[str, Any]]:
    return [message for message in desk.messages() if message["channel"] == channel]


async def test_an_incident_is_told_in_the_channel_of_its_owner_and_stays_there(desk: Desk) -> None:
    _with(desk, petra=_channel(desk, "#ops", owners="petra, Paul"))
    hers = await desk.open(customer="Acme", owner="Petra")
    await desk.open(customer="Globex", owner="Quinn")
    await desk.deliver()
    assert ["Acme" in str(message) for message in _of(desk, "ops")] == [True]
    assert ["Globex" in str(message) for message in _of(desk, "linekeeper")] == [True]

    _with(desk, petra=_channel(desk, "#ops", owners="Quinn"))
    await desk.change(hers, "changed", "The system answers now and then.")
    desk.ahead = timedelta(hours=5)  # the escalation and the reminder are due
    await desk.deliver()
    [message] = _of(desk, "ops")
    said = [reply["text"] for reply in message["replies"]]
    assert any("now and then" in text for text in said)
    assert any("acknowledged" in text for text in said)
    assert not any("Acme" in str(message) for message in _of(desk, "linekeeper"))


async def test_a_channel_that_is_away_delays_only_itself(desk: Desk) -> None:
    _with(desk, petra=_channel(desk, "#ops", owners="Petra"))
    desk.slack.channel("ops").archived = True
    for number in range(30):
        await desk.open(customer=f"Acme {number}", owner="Petra")
    await desk.open(customer="Globex", owner="Quinn")
    await desk.deliver(limit=20)
    assert len(_of(desk, "linekeeper")) == 1
    assert any("unarchive" in (row.error or "") for row in await slack_rows(desk.store))

    desk.slack.channel("ops").archived = False
    desk.ahead = timedelta(minutes=16)
    for _ in range(3):
        await desk.deliver()
        desk.ahead += timedelta(minutes=1)
    shown = _of(desk, "ops")
    assert len(shown) == 20  # the cap of an hour is the channel's own
    assert all(f"Acme {number}" in str(shown) for number in range(30))


async def test_a_channel_that_hangs_holds_up_only_its_own(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hangs for ever here, having taken the message: nobody waits, and it is said once."""
    monkeypatch.setattr(slack_channel, "TIMEOUT_SECONDS", 3_600)
    monkeypatch.setattr(SlackSender, "deadline_seconds", 3_600.0)
    _with(desk, petra=_channel(desk, "#ops", owners="Petra"))
    desk.slack.faults.mode, desk.slack.faults.channel = "lost", "#ops"
    await desk.open(customer="Acme", owner="Petra")
    async with SlackDelivery(desk.store, "one", pacer=Pacer(0)) as delivery:
        for customer in ("Globex", "Initech", "Hooli"):
            await desk.open(customer=customer, owner="Quinn")
            async with asyncio.timeout(120):
                while not (_of(desk, "ops") and customer in str(_of(desk, "linekeeper"))):
                    await delivery.evaluate(desk.configuration, Links())
                    await delivery.step()
            assert delivery.is_busy
    desk.slack.faults.mode = ""
    desk.ahead = timedelta(seconds=30)  # it may still arrive before
    await desk.deliver()
    [message] = _of(desk, "ops")
    assert "Acme" in str(message)


async def test_where_a_channel_is_gone_its_incidents_go_on_in_default(desk: Desk) -> None:
    _with(desk, petra=_channel(desk, "#ops", owners="Petra"))
    hers = await desk.open(customer="Acme", owner="Petra")
    await desk.deliver()
    _with(desk)
    await desk.change(hers, "resolved", "It answers.", status="resolved", resolved_at=desk.now())
    await desk.deliver()
    assert ["Acme" in str(message) for message in _of(desk, "linekeeper")] == [True]


async def test_a_digest_goes_to_the_channel_of_its_topic(desk: Desk) -> None:
    _with(desk, morning=_channel(desk, "#general", topics="digest"))
    payload = {"do": "say", "text": "Digest: all healthy", **said_about("digest")}
    other = {"do": "say", "text": "Hello"}
    async with desk.store.write() as session:
        rows = [Message("slack", "slack:say:1", payload), Message("slack", "slack:say:2", other)]
        await enqueue(desk.store, session, rows, now=desk.now())
    await desk.deliver()
    assert [message["text"] for message in _of(desk, "general")] == ["Digest: all healthy"]
    assert [message["text"] for message in _of(desk, "linekeeper")] == ["Hello"]


def _configuration(**channels: dict[str, Any]) -> Configuration:
    configs = {
        name: SlackConfig(bot_token=SecretStr("xoxb-1"), channel=f"#{name}", **rules)
        for name, rules in channels.items()
    }
    return Configuration(slack=configs.pop("default", None), slack_channels=configs)


ACME = Concerned("Petra", ("Acme", "acme"), ("gold",), "sap-ecc")
BOTH = Concerned("Petra <U0PETRANOVAK>", ("Initech", "initech"), (), "sap-ecc")
GLOBEX = Concerned("Quinn", ("Globex", "globex"), (), "sap-ecc")


@pytest.mark.parametrize(
    ("rules", "about", "fits"),
    [
        ({"customers": "ACME"}, RuleSubject(concerned=[ACME]), True),
        ({"customers": "acme"}, RuleSubject(concerned=[ACME, GLOBEX]), False),
        ({"customers": "acme, globex"}, RuleSubject(concerned=[ACME, GLOBEX]), True),
        ({"providers": "sap-ecc"}, RuleSubject(concerned=[ACME, GLOBEX]), True),
        ({"tags": "gold", "owners": "Petra"}, RuleSubject(concerned=[ACME]), True),
        ({"tags": "gold", "owners": "Quinn"}, RuleSubject(concerned=[ACME]), False),
        ({"owners": "Petra"}, RuleSubject(concerned=[BOTH]), True),
        ({"owners": "U0PETRANOVAK"}, RuleSubject(concerned=[BOTH]), True),
        ({"severities": "critical"}, RuleSubject(severity="critical"), True),
        ({"severities": "critical"}, RuleSubject(severity="low"), False),
        ({"topics": "health\nwebhooks"}, RuleSubject(topics=("unreachable", "health")), True),
        ({"owners": "Petra"}, RuleSubject(topics=("digest",)), False),
        ({}, RuleSubject(concerned=[ACME]), False),
    ],
)
def test_a_rule_fits_or_it_does_not(rules: dict[str, str], about: RuleSubject, fits: bool) -> None:
    channels = channels_of(_configuration(default={}, other=rules))
    assert route(about, channels) == ("other" if fits else "default")


def test_the_first_that_fits_takes_it_in_the_order_of_their_positions() -> None:
    configuration = _configuration(
        default={},
        late={"providers": "sap-ecc"},
        early={"customers": "acme", "position": 1},
    )
    assert route(RuleSubject(concerned=[ACME]), channels_of(configuration)) == "early"
    assert route(RuleSubject(concerned=[GLOBEX]), channels_of(configuration)) == "late"


def test_a_severity_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="urgent"):
        check(SlackConfig(bot_token=SecretStr("x"), channel="#a", severities="critical, urgent"))


def test_each_channel_has_its_own_cap_of_first_messages_and_its_own_reach() -> None:
    now = utcnow()
    situations = [
        Situation(id=f"i{n:03}", severity="normal", opened_at=now, slack_channel=name)
        for n, name in enumerate(["a"] * 30 + ["b"] * 5)
    ]
    policy = AlertPolicy(elsewhere=(SecretStr("json://127.0.0.1:9/"),))
    broken = Reach(broken_since=now, needs_fix=True)
    reach = Reach(others={"a": broken, "b": Reach()})
    decision = decide(situations, [], policy=policy, reach=reach, now=now)
    own = {say.slack_channel: 0 for say in decision.say}
    for say in decision.say:
        own[say.slack_channel] += say.group_key is None
    assert own == {"a": 19, "b": 5}


async def test_no_statement_is_kept_for_what_was_due_in_each_channel_once(desk: Desk) -> None:
    """A consumer runs for months, and each look at several channels finds other messages."""

    def kept() -> int:
        gc.collect()
        return sum(type(each) is Work for each in gc.get_objects())

    _with(desk, petra=_channel(desk, "#ops", owners="Petra"))
    await desk.open(customer="Acme", owner="Petra")
    await desk.deliver()
    before = kept()
    for number in range(5):
        await desk.open(customer=f"Globex {number}", owner="Petra")
        await desk.deliver()
    assert kept() - before < 5
