"""Escalation and fall-back through Apprise, to real services on this machine."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import apprise.plugins.pagerduty
import pytest
from aiohttp import web
from pydantic import SecretStr
from sqlalchemy import select, update
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.config import AlertPolicy, Configuration
from linekeeper.incidents.announce import say
from linekeeper.incidents.operate import acknowledge
from linekeeper.notify.channels import troubles
from linekeeper.outbox.senders.apprise import can_read, fallback_sender
from linekeeper.store.tables import IncidentConnection, Outbox
from sandbox.slack import SlackFaults
from tests.delivering import is_any_sent
from tests.notify.conftest import Desk
from tests.reconnect.post import listening, text_of
from tests.self_signed import self_signed

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
        return [row["title"] for row in self.heard]


@asynccontextmanager
async def taking(tls: ssl.SSLContext | None = None) -> AsyncIterator[Pager]:
    pager = Pager()
    app = web.Application()
    app.router.add_post("/{path:.*}", pager.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    pager.port = runner.addresses[0][1]
    yield pager
    await runner.cleanup()


@pytest.fixture
async def pager(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pager]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with taking() as one:
        yield one


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    """A certificate that nobody but its own key vouches for."""
    return self_signed(tmp_path)


def also(desk: Desk, pager: Pager, **fields: Any) -> None:
    through(desk, f"json://user:very-secret@127.0.0.1:{pager.port}/", **fields)


def through(desk: Desk, url: str, **fields: Any) -> None:
    policy = AlertPolicy(elsewhere=(SecretStr(url),), **fields)
    desk.configuration = desk.configuration.model_copy(update={"alerts": policy})


async def deliver(desk: Desk) -> None:
    await desk.deliver(limit=200)

    async def configured() -> Configuration:
        return desk.configuration

    async with fallback_sender(desk.store, "tests", configured, clock=desk.now) as dispatcher:
        while is_any_sent(await dispatcher.deliver()):
            pass


async def test_what_nobody_takes_is_escalated_to_fallback_channels_once_and_its_end_notified(
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
    assert pager.heard[0]["message"].startswith("Escalated: Acme · SAP ECC Unreachable, for 1")
    [message] = desk.messages()
    assert "Escalated" in message["replies"][-1]["text"]
    await desk.change(incident_id, "resolved", status="resolved", resolved_at=desk.now())
    await deliver(desk)
    assert pager.heard[1]["message"].startswith("Resolved: ")
    assert len(pager.heard) == 2


async def test_who_was_never_called_is_not_told_that_it_is_over(desk: Desk, pager: Pager) -> None:
    also(desk, pager, escalate_from="normal")
    incident_id = await desk.open()
    await deliver(desk)
    desk.ahead = timedelta(minutes=61)
    pager.status = 503
    await deliver(desk)
    await desk.change(incident_id, "resolved", status="resolved", resolved_at=desk.now())
    pager.status = 200
    desk.ahead = timedelta(hours=3)
    await deliver(desk)
    await deliver(desk)
    assert pager.heard == []


async def test_what_somebody_has_taken_is_not_escalated(desk: Desk, pager: Pager) -> None:
    also(desk, pager, escalate_from="normal")
    incident_id = await desk.open()
    await deliver(desk)
    await acknowledge(desk.store, incident_id, by="Petra", now=desk.now())
    desk.ahead = timedelta(hours=3)
    await deliver(desk)
    assert pager.heard == []


@pytest.mark.parametrize(
    "refusal",
    ["is_archived", "not_in_channel", "token_revoked", "missing_scope", "unheard_of_until_now"],
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


async def test_who_joins_an_incident_while_slack_refuses_is_told_to_others(
    desk: Desk, pager: Pager
) -> None:
    also(desk, pager)
    desk.slack.faults = SlackFaults(mode="token_revoked")
    incident_id = await desk.open(others=2)
    for minutes in (0, 5):
        desk.ahead = timedelta(minutes=minutes)
        await deliver(desk)
        await deliver(desk)
        async with desk.store.write() as session:
            await session.execute(
                update(IncidentConnection)
                .where(col(IncidentConnection.incident_id) == incident_id)
                .values(joined_at=desk.now() + timedelta(minutes=2))
            )
    desk.ahead = timedelta(minutes=8)
    await deliver(desk)
    assert len(pager.heard) == 3
    assert [body["message"].partition(":")[0] for body in pager.heard] == [
        "New",
        "More connections",
        "More connections",
    ]


@pytest.mark.parametrize("mode", ["500", "429-300"])
async def test_a_slack_that_is_busy_for_a_moment_is_no_reason_to_call_others(
    desk: Desk, pager: Pager, mode: str
) -> None:
    """One that asks for one long pause after the other is out of reach, too."""
    also(desk, pager)
    await desk.open()
    desk.slack.faults = SlackFaults(mode=mode)
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


async def test_a_url_that_makes_apprise_fail_holds_up_no_other(desk: Desk, pager: Pager) -> None:
    urls = ("windows://?", f"json://127.0.0.1:{pager.port}/")
    policy = AlertPolicy(elsewhere=tuple(map(SecretStr, urls)))
    desk.configuration = Configuration(alerts=policy)
    await desk.open()
    await deliver(desk)
    await deliver(desk)
    assert pager.titles == ["Linekeeper: Acme · SAP ECC"]
    assert not can_read(urls[0])
    [trouble] = await troubles(desk.store)
    assert trouble.trouble.startswith("Apprise can't read the URL windows://…: correct it")


EVIL = "<at>all</at> [Log in](http://evil.example) <b>Acme</b> @everyone"


async def lived_through(desk: Desk) -> None:
    """An incident that nobody takes, and its end."""
    incident_id = await desk.open(customer=EVIL)
    await deliver(desk)
    desk.ahead = timedelta(minutes=61)
    await deliver(desk)
    await desk.change(incident_id, "resolved", status="resolved", resolved_at=desk.now())
    await deliver(desk)


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
async def test_teams_hears_it_and_no_name_becomes_a_link_or_a_mention(
    desk: Desk, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with taking(tls) as teams:
        url = f"workflows://127.0.0.1:{teams.port}/flow/signature?verify=no"
        through(desk, url, escalate_from="normal")
        await lived_through(desk)
    assert len(teams.heard) == 2
    said = str(teams.heard)
    assert "Escalated: " in said
    assert "Resolved: " in said
    assert "'entities'" not in said  # people who are mentioned
    assert "[Log in](" not in said
    assert "@everyone" not in said


async def test_pagerduty_is_alarmed_and_no_end_is_a_further_alarm(
    desk: Desk, pager: Pager, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = f"http://127.0.0.1:{pager.port}/v2/enqueue"
    monkeypatch.setitem(apprise.plugins.pagerduty.PAGERDUTY_API_LOOKUP, "us", at)
    through(desk, "pagerduty://integration@api-key", escalate_from="normal")
    await lived_through(desk)
    [alarm] = pager.heard
    assert alarm["event_action"] == "trigger"
    assert alarm["payload"]["severity"] == "critical"
    assert "Escalated: " in alarm["payload"]["summary"]
    async with desk.store.read() as session:
        rows = await session.scalars(select(Outbox).where(Outbox.channel == "elsewhere"))
        assert {row.status for row in rows} == {"sent", "skipped"}


async def test_a_mailbox_gets_lines_as_they_are_and_no_markup_of_a_name(desk: Desk) -> None:
    async with listening() as post:
        url = f"mailto://127.0.0.1:{post.port}?from=line@op.example&to=team@op.example"
        through(desk, url, escalate_from="normal")
        await lived_through(desk)
    assert [mail["To"] for mail in post.mails] == ["team@op.example"] * 2
    first = post.mails[0]
    assert "\n[OPEN] " in text_of(first).replace("\r\n", "\n")
    page = first.get_body(("html",))
    assert page is None or "<b>Acme" not in str(page.get_content())


@pytest.mark.parametrize("answer", ["451 not now", "550 nothing from you"])
async def test_a_mailbox_that_takes_nothing_is_named_and_is_told_no_end(
    desk: Desk, answer: str
) -> None:
    async with listening() as post:
        url = f"mailto://127.0.0.1:{post.port}?from=line@op.example&to=team@op.example"
        through(desk, url, escalate_from="normal")
        post.answer = answer
        await lived_through(desk)
        assert post.mails == []
        [trouble] = await troubles(desk.store)
        assert trouble.trouble.startswith("mailto://… did not take the message")
        post.answer = "250 OK"
        desk.ahead = timedelta(hours=2)
        await deliver(desk)
    assert post.mails == []  # of what was never said there
