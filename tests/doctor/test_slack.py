"""What the doctor says of Slack, against the sandbox's."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import sandbox
from linekeeper.config import Configuration, SlackConfig
from linekeeper.doctor import DoctorFinding, worst
from linekeeper.doctor.slack import examine_slack
from tests.self_signed import self_signed


@pytest.fixture(scope="module")
async def box() -> AsyncIterator[sandbox.Served]:
    async with sandbox.serving(sandbox.Settings(port=0, connections=0)) as served:
        yield served


def _config(box: sandbox.Served, **changes: object) -> SlackConfig:
    given_box = box.world.settings
    return SlackConfig.model_validate(
        {
            "bot_token": given_box.slack_token,
            "channel": "linekeeper",
            "signing_secret": given_box.slack_signing_secret,
            "api_url": f"{box.url}/slack/api/",
            **changes,
        }
    )


async def _examine(config: SlackConfig | None) -> dict[str, DoctorFinding]:
    return {
        found.name: found for found in await examine_slack(Configuration(slack=config), seconds=5)
    }


async def test_a_channel_in_order_has_nothing_to_mend(box: sandbox.Served) -> None:
    found = await _examine(_config(box))
    assert worst(found.values()) == "ok", found
    assert set(found) == {"slack · token", "slack · scopes", "slack · channel linekeeper"}


async def test_a_look_posts_nothing(box: sandbox.Served) -> None:
    await _examine(_config(box))
    assert not any(method.startswith("chat.") for method in box.world.slack.calls)


async def test_no_slack_is_a_warning() -> None:
    (found,) = (await _examine(None)).values()
    assert (found.level, "nobody is notified" in found.text) == ("warn", True)


async def test_a_certificate_that_nobody_knows_is_said_with_what_to_do(
    box: sandbox.Served, tmp_path: Path
) -> None:
    server = await asyncio.start_server(
        lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=self_signed(tmp_path)
    )
    async with server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/api/"
        (found,) = (await _examine(_config(box, api_url=url))).values()
    assert found.level == "wrong"
    assert "its certificate is not accepted (self-signed certificate)" in found.text
    assert "SSLCertVerificationError" not in found.text


async def test_a_wrong_token_is_named_and_not_shown(box: sandbox.Served) -> None:
    (found,) = (await _examine(_config(box, bot_token="xoxb-hunter2"))).values()
    assert found.level == "wrong"
    assert "invalid_auth" in found.text
    assert "bot token" in found.fix
    assert "hunter2" not in repr(found)


async def test_a_channel_the_bot_cant_see_is_pointed_out(box: sandbox.Served) -> None:
    found = (await _examine(_config(box, channel="nowhere")))["slack · channel nowhere"]
    assert found.level == "warn"
    assert "Test message" in found.fix
    by_id = (await _examine(_config(box, channel="C0NOWHERE1")))["slack · channel C0NOWHERE1"]
    assert by_id.level == "wrong"
    assert "channel_not_found" in by_id.text


async def test_a_missing_signing_secret_is_pointed_out(box: sandbox.Served) -> None:
    assert (await _examine(_config(box, signing_secret="")))["slack · buttons"].level == "warn"


async def test_what_isnt_slack_is_a_finding(box: sandbox.Served) -> None:
    for url in ("http://127.0.0.1:1/", f"{box.url}/nothing/", f"{box.url}/slack/"):
        (found,) = (await _examine(_config(box, api_url=url))).values()
        assert found.level == "wrong", found
        assert found.fix


async def test_each_channel_is_looked_at_and_one_without_rules_is_pointed_out(
    box: sandbox.Served,
) -> None:
    channels = {
        "ops": _config(box, channel="ops", owners="Petra"),
        "idle": _config(box, channel="nowhere"),
    }
    configuration = Configuration(slack=_config(box), slack_channels=channels)
    found = {each.name: each for each in await examine_slack(configuration, seconds=5)}
    assert found["slack · channel linekeeper"].level == "ok"
    assert found["slack ops · channel ops"].level == "ok"
    assert found["slack idle · channel nowhere"].level == "warn"
    assert "takes no message" in found["slack idle · rules"].text
