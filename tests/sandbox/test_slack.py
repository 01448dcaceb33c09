"""The Slack Web API, asked by Slack's own client, and the page that shows it."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Awaitable
from urllib.parse import parse_qs

import orjson
import pytest
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.slack_text import mrkdwn

from .conftest import Box, listening


@pytest.fixture
def slack(box: Box) -> AsyncWebClient:
    return _client(box)


def _client(box: Box, token: str = "xoxb-sandbox", timeout: int = 10) -> AsyncWebClient:
    return AsyncWebClient(token, base_url=f"{box.served.url}/slack/api/", timeout=timeout)


def _section(text: str) -> dict[str, object]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


async def _error(awaited: Awaitable[object]) -> str:
    with pytest.raises(SlackApiError) as caught:
        await awaited
    return str(caught.value.response["error"])


async def test_a_message_is_posted_edited_and_answered_in_its_thread(
    box: Box, slack: AsyncWebClient
) -> None:
    assert (await slack.auth_test())["user"] == "linekeeper"
    first = await slack.chat_postMessage(channel="#alerts", text="down", blocks=[_section("down")])
    await slack.chat_postMessage(channel="alerts", text="diary", thread_ts=first["ts"])
    await slack.chat_update(
        channel=first["channel"], ts=first["ts"], text="up", blocks=[_section("up")]
    )
    [message] = (await box.http.get("/_control/slack")).json()["messages"]
    assert (message["text"], message["channel"], message["edits"]) == ("up", "alerts", 1)
    assert message["edited"]
    assert [reply["text"] for reply in message["replies"]] == ["diary"]
    history = await slack.conversations_history(channel=first["channel"])
    assert [m["text"] for m in history["messages"]] == ["up"]
    assert history["messages"][0]["reply_count"] == 1
    replies = await slack.conversations_replies(channel=first["channel"], ts=first["ts"])
    assert [m["text"] for m in replies["messages"]] == ["up", "diary"]


async def test_files_are_uploaded_by_slacks_three_steps(box: Box, slack: AsyncWebClient) -> None:
    channel = (await slack.conversations_list())["channels"][0]["id"]
    await slack.files_upload_v2(
        channel=channel, filename="gantt.svg", content="<svg/>", initial_comment="The plan"
    )
    [message] = (await box.http.get("/_control/slack")).json()["messages"]
    assert (message["text"], message["files"]) == ("The plan", ["gantt.svg"])
    assert list(box.world.slack.uploads.values()) == [b"<svg/>"]


async def test_a_wrong_token_is_invalid_auth(box: Box) -> None:
    assert await _error(_client(box, "xoxb-other").auth_test()) == "invalid_auth"


async def test_slack_refuses_what_it_refuses(box: Box, slack: AsyncWebClient) -> None:
    post = slack.chat_postMessage
    assert await _error(post(channel="#nowhere", text="x")) == "channel_not_found"
    assert await _error(post(channel="#ops", text="x", thread_ts="1.0")) == "thread_not_found"
    assert (
        await _error(post(channel="#ops", text="x", blocks=[_section("x")] * 51))
        == "invalid_blocks"
    )
    assert (
        await _error(post(channel="#ops", text="x", blocks=[_section("x" * 3001)]))
        == "invalid_blocks"
    )
    assert await _error(slack.chat_update(channel="#ops", ts="1.0", text="x")) == (
        "message_not_found"
    )
    await box.http.post("/_control/slack", json={"channels": {"ops": "archived"}})
    assert await _error(post(channel="#ops", text="x")) == "is_archived"
    await box.http.post("/_control/slack", json={"channels": {"ops": "left"}})
    assert await _error(post(channel="#ops", text="x")) == "not_in_channel"


async def test_a_message_deleted_by_hand_cannot_be_edited(box: Box, slack: AsyncWebClient) -> None:
    sent = await slack.chat_postMessage(channel="#ops", text="x")
    gone = {"channel": sent["channel"], "ts": sent["ts"]}
    await box.http.post("/_control/slack", json={"delete": gone})
    assert await _error(slack.chat_update(**gone, text="y")) == "message_not_found"


@pytest.mark.parametrize(
    ("mode", "error"), [("429", "ratelimited"), ("token_revoked", "token_revoked")]
)
async def test_slack_can_be_told_to_refuse(
    box: Box, slack: AsyncWebClient, mode: str, error: str
) -> None:
    await box.http.post("/_control/slack", json={"mode": mode})
    assert await _error(slack.chat_postMessage(channel="#ops", text="x")) == error
    await box.http.post("/_control/slack", json={"mode": ""})
    await slack.chat_postMessage(channel="#ops", text="x")


async def test_a_lost_answer_leaves_the_message(box: Box) -> None:
    await box.http.post("/_control/slack", json={"mode": "lost", "timeout_seconds": 2})
    with pytest.raises(asyncio.TimeoutError):
        await _client(box, timeout=1).chat_postMessage(channel="#ops", text="x")
    assert len((await box.http.get("/_control/slack")).json()["messages"]) == 1


async def test_a_channel_takes_a_burst_and_then_a_message_a_second(
    box: Box, slack: AsyncWebClient
) -> None:
    await box.http.post("/_control/slack", json={"rate_limit": True})
    for number in range(5):
        await slack.chat_postMessage(channel="#ops", text=str(number))
    with pytest.raises(SlackApiError) as caught:
        await slack.chat_postMessage(channel="#ops", text="too soon")
    assert caught.value.response.headers["Retry-After"] == "1"
    await slack.chat_postMessage(channel="#general", text="another channel")
    await box.http.post("/_control/settings", json={"advance_seconds": 1})
    await slack.chat_postMessage(channel="#ops", text="in time")


async def test_the_page_shows_message_thread_and_buttons(box: Box, slack: AsyncWebClient) -> None:
    button = {
        "type": "button",
        "action_id": "ack",
        "value": "inc-1",
        "text": {"type": "plain_text", "text": "Acknowledge"},
    }
    sent = await slack.chat_postMessage(
        channel="#linekeeper",
        text="fallback",
        attachments=[
            {
                "color": "#e01e5a",
                "blocks": [
                    {
                        "type": "header",
                        "text": {"type": "plain_text", "text": ":red_circle: <Acme>"},
                    },
                    {"type": "actions", "block_id": "b", "elements": [button]},
                ],
            }
        ],
    )
    await slack.chat_postMessage(channel="#linekeeper", text="diary", thread_ts=sent["ts"])
    page = (await box.http.get("/slack", params={"channel": "linekeeper"})).text
    for expected in ("🔴</span> &lt;Acme&gt;", "Acknowledge", "1 reply", "diary", "#e01e5a"):
        assert expected in page
    assert "<Acme>" not in page
    version = box.world.slack.version
    unchanged = await box.http.get("/slack/messages", params={"version": version})
    assert unchanged.status_code == 204


async def test_a_pressed_button_reaches_the_app_signed(box: Box, slack: AsyncWebClient) -> None:
    heard: list[Request] = []

    async def hear(request: Request) -> Response:
        await request.body()
        heard.append(request)
        return Response()

    app = Starlette(routes=[Route("/{path:path}", hear, methods=["POST"])])
    element = {
        "type": "button",
        "action_id": "ack",
        "value": "inc-1",
        "text": {"type": "plain_text", "text": "Acknowledge"},
    }
    sent = await slack.chat_postMessage(
        channel="#ops",
        text="down",
        blocks=[{"type": "actions", "block_id": "b", "elements": [element]}],
    )
    form = {"channel": sent["channel"], "ts": sent["ts"], "block_id": "b", "action_id": "ack"}
    unset = await box.http.post("/slack/press", data=form)
    assert unset.status_code == 409
    async with listening(app) as url:
        box.world.settings.slack_actions_url = f"{url}/slack/actions"
        answer = await box.http.post("/slack/press", data=form)
    assert answer.json()["status"] == 200
    [request] = heard
    body = await request.body()
    stamp = request.headers["X-Slack-Request-Timestamp"]
    expected = hmac.new(
        box.world.settings.slack_signing_secret.encode(),
        f"v0:{stamp}:".encode() + body,
        hashlib.sha256,
    )
    assert request.headers["X-Slack-Signature"] == f"v0={expected.hexdigest()}"
    payload = orjson.loads(parse_qs(body.decode())["payload"][0])
    assert (payload["type"], payload["actions"][0]["value"]) == ("block_actions", "inc-1")
    changed = await box.http.post(
        payload["response_url"], json={"replace_original": True, "text": "acknowledged"}
    )
    assert changed.is_success
    [message] = (await box.http.get("/_control/slack")).json()["messages"]
    assert message["text"] == "acknowledged"


async def test_a_modal_is_opened_filled_and_submitted(box: Box, slack: AsyncWebClient) -> None:
    view = {
        "type": "modal",
        "callback_id": "snooze",
        "title": {"type": "plain_text", "text": "Snooze"},
        "blocks": [
            {
                "type": "input",
                "block_id": "why",
                "label": {"type": "plain_text", "text": "Why"},
                "element": {"type": "plain_text_input", "action_id": "text"},
            }
        ],
    }
    opened = (await slack.views_open(trigger_id="t", view=view))["view"]["id"]
    assert "Snooze" in (await box.http.get("/slack")).text
    heard: list[bytes] = []

    async def hear(request: Request) -> Response:
        heard.append(await request.body())
        return Response()

    app = Starlette(routes=[Route("/{path:path}", hear, methods=["POST"])])
    async with listening(app) as url:
        box.world.settings.slack_actions_url = url
        await box.http.post(
            "/slack/submit", data={"view": opened, "why/text": "known", "answer": "submit"}
        )
    payload = orjson.loads(parse_qs(heard[0].decode())["payload"][0])
    assert payload["type"] == "view_submission"
    assert payload["view"]["state"]["values"]["why"]["text"]["value"] == "known"
    assert box.world.slack.views == []


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("*bold* _it_ ~no~", "<b>bold</b> <i>it</i> <s>no</s>"),
        ("`*code*`", "<code>*code*</code>"),
        ("```\na < b\n```", "<pre>a &lt; b</pre>"),
        (":red_circle: :nope:", "🔴</span> :nope:"),
        ("> quoted", "<blockquote>quoted</blockquote>"),
        ("a\nb", "a<br>b"),
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("&lt;!channel&gt;", "&lt;!channel&gt;"),
        ("2*3*4 snake_case_name", "2*3*4 snake_case_name"),
        ("<javascript:alert(1)|x>", "&lt;javascript:alert(1)|x&gt;"),
        ("<!date^0^{date_num} {time}|then>", "1970-01-01 00:00"),
    ],
)
def test_mrkdwn_becomes_html_and_nothing_else_does(said: str, shown: str) -> None:
    assert shown in mrkdwn(said)
    assert "<script" not in mrkdwn(said)


def test_a_link_shows_its_label() -> None:
    shown = mrkdwn("see <http://127.0.0.1:4200/runs?a=1&amp;b=2|*the run*>")
    assert 'href="http://127.0.0.1:4200/runs?a=1&amp;b=2"' in shown
