"""Escalation and fall-back through Apprise, to a real webhook on this machine."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr
from sqlalchemy import select

from linekeeper.clock import utcnow
from linekeeper.config import AlertPolicy, Configuration
from linekeeper.health.operate import acknowledge
from linekeeper.notices import say
from linekeeper.notices.channels import troubles
from linekeeper.notices.elsewhere import deliver_elsewhere
from linekeeper.sandbox.slack import SlackFaults
from linekeeper.store.tables import Outbox
from tests.notices.conftest import Desk

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


class Pager:
    """A webhook that keeps what it is sent."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []
        self.status = 200
        self.port = 0

    async def take(self, request: web.Request) -> web.Response:
        if self.status == 200:
            self.heard.append(await request.json())
        return web.Response(status=self.status)

    @property
    def titles(self) -> list[str]:
        return [one["title"] for one in self.heard]


@pytest.fixture
async def pager(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pager]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    one = Pager()
    app = web.Application()
    app.router.add_post("/", one.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    one.port = runner.addresses[0][1]
    yield one
    await runner.cleanup()


def also(desk: Desk, pager: Pager, **fields: Any) -> None:
    url = SecretStr(f"json://user:very-secret@127.0.0.1:{pager.port}/")
    policy = AlertPolicy(elsewhere=(url,), **fields)
    desk.configuration = desk.configuration.model_copy(update={"alerts": policy})


async def deliver(desk: Desk) -> None:
    await desk.deliver(limit=200)
    while await deliver_elsewhere(desk.store, desk.configuration, "tests", clock=desk.now):
        pass


async def test_what_nobody_takes_is_escalated_elsewhere_once_and_its_end_told(
    desk: Desk, pager: Pager
) -> None:
    also(desk, pager, escalate_from="normal")
    incident_id = await desk.open()
    await deliver(desk)
    assert pager.heard == []
    desk.ahead = timedelta(minutes=61)
    await deliver(desk)
    await deliver(desk)
    assert pager.titles == ["Linekeeper: Acme · SAP ECC"]
    assert pager.heard[0]["message"].startswith("Escalated: Acme · SAP ECC does not answer, for 1")
    [message] = desk.messages()
    assert "Escalated" in message["replies"][-1]["text"]
    await desk.change(incident_id, "resolved", status="resolved", resolved_at=desk.now())
    await deliver(desk)
    assert pager.heard[1]["message"].startswith("Resolved: ")
    assert len(pager.heard) == 2


async def test_what_somebody_has_taken_is_not_escalated(desk: Desk, pager: Pager) -> None:
    also(desk, pager, escalate_from="normal")
    incident_id = await desk.open()
    await deliver(desk)
    await acknowledge(desk.store, incident_id, by="Petra", now=desk.now())
    desk.ahead = timedelta(hours=3)
    await deliver(desk)
    assert pager.heard == []


@pytest.mark.parametrize(
    "refusal", ["is_archived", "not_in_channel", "token_revoked", "missing_scope"]
)
async def test_where_slack_refuses_others_are_told_once_and_slack_when_it_is_mended(
    desk: Desk, pager: Pager, refusal: str
) -> None:
    also(desk, pager)
    for n in range(3):
        await desk.open(customer=f"Customer {n}")
    async with desk.store.write() as session:
        await say(desk.store, session, "news", "A word of its own", utcnow())
    desk.slack.faults = SlackFaults(mode=refusal)
    await deliver(desk)
    await deliver(desk)
    assert sorted(pager.titles) == ["Linekeeper", "Linekeeper: 3 incidents"]
    [trouble] = await troubles(desk.store)
    assert refusal in trouble.trouble
    desk.slack.faults = SlackFaults()
    desk.ahead = timedelta(minutes=11)
    await deliver(desk)
    assert len(desk.messages()) == 4
    assert len(pager.heard) == 2
    assert await troubles(desk.store) == []


async def test_a_slack_that_is_busy_for_a_moment_is_no_reason_to_call_others(
    desk: Desk, pager: Pager
) -> None:
    also(desk, pager)
    await desk.open()
    desk.slack.faults = SlackFaults(mode="500")
    await deliver(desk)
    assert pager.heard == []
    desk.ahead = timedelta(minutes=11)
    await deliver(desk)
    assert pager.titles == ["Linekeeper: Acme · SAP ECC"]


async def test_without_slack_others_hear_everything(desk: Desk, pager: Pager) -> None:
    also(desk, pager)
    alerts = desk.configuration.alerts
    desk.configuration = Configuration(alerts=alerts)
    await desk.open()
    async with desk.store.write() as session:
        await say(desk.store, session, "news", "A word of its own", utcnow())
    await deliver(desk)
    await deliver(desk)
    assert sorted(pager.titles) == ["Linekeeper", "Linekeeper: Acme · SAP ECC"]


async def test_a_service_that_fails_is_tried_again_and_named_without_its_secret(
    desk: Desk, pager: Pager
) -> None:
    also(desk, pager)
    pager.status = 500
    desk.configuration = desk.configuration.model_copy(update={"slack": None})
    await desk.open()
    await deliver(desk)
    await deliver(desk)
    [trouble] = await troubles(desk.store)
    assert trouble.trouble.startswith("json://… did not take the message")
    async with desk.store.read() as session:
        rows = list(await session.scalars(select(Outbox).where(Outbox.channel == "elsewhere")))
    assert "very-secret" not in str([(row.error, row.payload, row.dedupe_key) for row in rows])
    pager.status = 200
    desk.ahead = timedelta(minutes=5)
    await deliver(desk)
    assert len(pager.heard) == 1
    assert await troubles(desk.store) == []
