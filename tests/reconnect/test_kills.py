"""`kill -9` at each step of a reconnect: the process completes, and nobody is told twice."""

import asyncio
import json
import os
import random
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import SecretStr
from sqlalchemy import update
from sqlmodel import col

import sandbox
from linekeeper.access.links import link_url
from linekeeper.access.signing import load_signer
from linekeeper.clock import utcnow
from linekeeper.consumer.connection_events import process_connection_events
from linekeeper.outbox.queue import ENDED
from linekeeper.outbox.senders.reconnect import advance_due_cases
from linekeeper.outbox.senders.slack import deliver_due
from linekeeper.reconcile.backfill import reconcile_window
from linekeeper.reconnect.counts import keep_counts
from linekeeper.reconnect.disconnect import disconnect
from linekeeper.reconnect.process import FormAnswer, close, take_answer
from linekeeper.reconnect.watch import watch
from linekeeper.settings import Settings
from linekeeper.store.configuration import SharedConfiguration
from linekeeper.store.tables import (
    ConnectLink,
    Credential,
    Lease,
    Outbox,
    Reconnect,
    WebhookEvent,
)
from linekeeper.watch.queries import beat
from tests.forking import python
from tests.receiver.test_connect import authorize_link, log_in, through
from tests.reconnect.conftest import House
from tests.reconnect.post import Post, listening
from tests.reconnect.test_ask import Opened, asking, next_weekday_noon, outbox, work
from tests.reconnect.working_clock import at

SEED = 7
DEADLINE_PAST = datetime(2100, 1, 1, tzinfo=UTC).isoformat()


def one_of(step: str, *tables: str) -> str:
    """Where the process of `step` dies: seeded, so that a failure can be looked at again."""
    return random.Random(f"{SEED}:{step}").choice(tables)


@pytest.fixture
async def post() -> AsyncIterator[Post]:
    async with listening() as server:
        yield server


async def opened(open_house: Opened, post: Post) -> House:
    """A house that mails, with the sandbox's Slack, and a login lost."""
    here = await asking(open_house, post.url)
    await with_slack(here)
    [connection, *_] = await here.connections()
    await here.lose_login(connection)
    return here


async def with_slack(here: House) -> None:
    """Have it tell the sandbox's Slack; a consumer lives, so that the receiver delivers nothing."""
    await beat(here.store, "consumer:tests", "consumer", "")
    sandbox = here.fleet.world.settings
    here.rt.settings = here.rt.settings.model_copy(
        update={
            "slack_bot_token": SecretStr(sandbox.slack_token),
            "slack_channel": sandbox.slack_channels[0],
            "slack_api_url": f"{here.fleet.url}/slack/api/",
        }
    )
    here.rt.configuration = SharedConfiguration(here.store, here.rt.settings).read


async def killed(here: House, step: str, table: str, **given: Any) -> None:
    """Do `step` in a process that dies as it commits to `table`; then let its claims run out."""
    process = await python(
        *("tests.reconnect.dying", step, table, json.dumps(given)),
        env={**os.environ, **environment(here.rt.settings)},
    )
    said, _ = await process.communicate()
    assert process.returncode == -signal.SIGKILL, f"{step} never wrote {table}: {said.decode()}"
    async with here.store.write() as session:
        await session.execute(update(Outbox).values(next_attempt_at=utcnow()))
        await session.execute(update(Lease).values(until=utcnow()))


def environment(settings: Settings) -> dict[str, str]:
    """The settings of the house, as another process gets them."""
    names = (
        *("home", "database_url", "encryption_keys", "public_url"),
        *("makini_api_url", "makini_link_url", "makini_client_id", "makini_client_secret"),
        *("makini_mode", "makini_per_minute", "notify_customers", "smtp_url", "mail_from"),
        *("slack_bot_token", "slack_channel", "slack_api_url"),
    )
    values = {name: getattr(settings, name) for name in names}
    values["database_url"] = settings.resolved_database_url
    return {
        f"LINEKEEPER_{name.upper()}": _text(value)
        for name, value in values.items()
        if value is not None
    }


def _text(value: Any) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return ",".join(map(_text, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def messages(here: House) -> list[dict[str, Any]]:
    return list(here.fleet.world.slack.snapshot())


async def deliver_slack(here: House) -> None:
    """Deliver to Slack what is due or is to be tried again soon, however often that is needed."""
    for _ in range(600):
        configuration = await here.rt.configuration()
        await deliver_due(here.store, configuration, here.rt.owner)
        soon = utcnow() + timedelta(seconds=90)  # a try that failed has waited longer each time
        waiting = await here.rows(
            Outbox,
            col(Outbox.channel) == "slack",
            col(Outbox.status) == "pending",
            col(Outbox.next_attempt_at) < soon,
        )
        if not waiting:
            return
        await asyncio.sleep(0.2)


async def test_killed_while_asking_there_is_one_link_one_run_and_one_mail(
    open_house: Opened, post: Post
) -> None:
    here = await opened(open_house, post)
    await killed(here, "ask", one_of("ask", "reconnect", "connect_link", "outbox", "connect_link+"))
    await work(here)
    assert len(await here.rows(ConnectLink)) == 1
    assert len(await outbox(here, "run")) == 1
    assert len(post.mails) == 1


async def test_killed_before_and_after_the_mail_was_taken_it_is_one_mail_to_its_reader(
    open_house: Opened, post: Post
) -> None:
    here = await opened(open_house, post)
    await advance_due_cases(here.rt)
    await killed(here, "mail", "outbox+")  # claimed, nothing sent
    assert post.mails == []
    await killed_as_it_settles(here, post)
    await work(here)
    assert len({mail["Message-ID"] for mail in post.mails}) == 1
    assert {row.status for row in await outbox(here, "email")} == {"sent"}


async def killed_as_it_settles(here: House, post: Post) -> None:
    """The server has taken the mail; the process dies before that is written down."""
    await killed(here, "mail", "'sent'")
    assert len(post.mails) == 1


async def test_killed_while_telling_slack_there_is_one_message_and_each_line_once(
    open_house: Opened, post: Post
) -> None:
    here = await opened(open_house, post)
    await work(here)
    await killed(here, "slack", one_of("slack", "notice_message", "notice_message+", "outbox+"))
    await deliver_slack(here)
    [message] = messages(here)
    said = [reply["text"] for reply in message["replies"]]
    assert len(said) == len(set(said))
    assert "/connect/" in str(message)
    assert {row.status for row in await outbox(here, "slack")} <= set(ENDED)


@pytest.mark.parametrize(
    "table", ["connect_attempt+", "credential", "credential+", "connect_link", "connect_link+"]
)
async def test_killed_in_the_callback_the_link_still_works_or_the_login_is_stored(
    open_house: Opened, post: Post, table: str
) -> None:
    here = await opened(open_house, post)
    await work(here)
    [connection, *_] = await here.connections()
    [link] = await here.rows(ConnectLink)
    path = link_url(await load_signer(here.store), "", link.id)
    location = await log_in(here, await authorize_link(here, path), connection.makini_key)
    query = {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}
    await killed(here, "callback", table, **query)
    stored = table == "connect_link+"
    again = await here.http.get(location)
    assert again.status_code == 400  # its state was used; the page says what to do
    if not stored:
        assert path in again.text
        assert (await through(here, path, connection.makini_key)).status_code == 200
    assert (await here.connection(connection.id)).health == "healthy"
    assert [row.status for row in await here.incidents()] == ["resolved"]
    [kept] = await here.rows(ConnectLink, col(ConnectLink.used_at).is_not(None))
    assert kept.used_for == connection.id
    await work(here)
    await deliver_slack(here)
    assert len(messages(here)) == 1
    assert len(post.mails) == 1


async def test_killed_as_the_webhook_is_applied_there_is_one_incident(
    open_house: Opened, post: Post
) -> None:
    secret = SecretStr(sandbox.Settings().webhook_secret)
    here = await asking(open_house, post.url, makini_webhook_secrets=(secret,))
    await with_slack(here)
    [connection, *_] = await here.connections()
    await here.control("settings", webhook_url=f"{here.rt.settings.public_url}/webhooks/default")
    await here.control(f"connections/{connection.makini_key}/change-credentials")
    async with asyncio.timeout(30):
        while not await here.rows(WebhookEvent):
            await asyncio.sleep(0.05)
    tables = ("incident", "transition", "outbox", "webhook_event")
    await killed(here, "webhook", one_of("webhook", *tables))
    async with here.store.write() as session:
        await session.execute(update(WebhookEvent).values(next_attempt_at=utcnow()))
    while await process_connection_events(here.rt):
        pass
    await work(here)
    await deliver_slack(here)
    assert len(await here.incidents()) == len(messages(here)) == len(post.mails) == 1
    assert {row.status for row in await here.rows(WebhookEvent)} == {"processed"}


async def test_killed_as_an_answer_is_taken_and_as_it_reminds_each_is_said_once(
    open_house: Opened, post: Post
) -> None:
    here = await opened(open_house, post)
    await work(here)
    [case] = await here.rows(Reconnect)
    table = one_of("answer", "reconnect", "audit", "outbox")
    await killed(here, "answer", table, incident=case.incident_id)
    for _ in range(2):
        answer = FormAnswer("Petra", note="They call back")
        await take_answer(here.rt, case.incident_id, 1, answer, now=utcnow())
    later = next_weekday_noon(case.opened_at + timedelta(days=4))
    await killed(here, "watch", "outbox", now=later.isoformat())
    for _ in range(2):
        await watch(here.rt, now=later)
    await killed(here, "watch", one_of("end", "reconnect", "outbox"), now=DEADLINE_PAST)
    for _ in range(2):
        await watch(here.rt, now=datetime.fromisoformat(DEADLINE_PAST))
    async with here.store.write() as session:
        await session.execute(update(Outbox).values(next_attempt_at=utcnow()))
    with at(next_weekday_noon(utcnow() + timedelta(days=1))):
        await work(here)
    await deliver_slack(here)
    [message] = messages(here)
    said = " ".join(reply["text"] for reply in message["replies"])
    for text in ("They call back", "Still waiting", "Not reconnected in time"):
        assert said.count(text) == 1
    assert len([mail for mail in post.mails if mail["Subject"].startswith("Reminder")]) == 1


async def test_killed_as_it_proves_back_fills_and_closes_the_counts_are_right_and_thanks_go_once(
    open_house: Opened, post: Post
) -> None:
    """B2: one durable process, which survives a crash at any step."""
    here = await opened(open_house, post)
    await work(here)
    [connection, *_] = await here.connections()
    [case] = await here.rows(Reconnect)
    until = utcnow() + timedelta(minutes=1)
    window = {"since": case.windows[connection.id], "until": until.isoformat()}
    await here.control(
        "records", connection=connection.makini_key, make=30, change=0, delete=0, announce=False
    )
    [link] = await here.rows(ConnectLink)
    path = link_url(await load_signer(here.store), "", link.id)
    assert (await through(here, path, connection.makini_key)).status_code == 200
    about = {"incident": case.incident_id, "connection": connection.id}
    await killed(here, "take_up", "reconnect", **about)
    await killed(here, "verify", one_of("verify", "connection", "connection+"), **about)
    for table in ("record+", one_of("back_fill", "record", "change", "reconnect")):
        await killed(here, "back_fill", table, **about, **window)
    since, until = map(datetime.fromisoformat, window.values())
    counts = await reconcile_window(here.rt, connection.id, since)
    kept = await keep_counts(
        here.rt,
        case.incident_id,
        connection.id,
        counts,
        since=since,
        until=until,
    )
    assert kept["caught_up"] == 30
    await killed(here, "close", one_of("close", "reconnect", "outbox", "incident"), **about)
    for _ in range(2):
        await close(here.rt, case.incident_id, "reconnected", now=utcnow())
    await work(here)
    await deliver_slack(here)
    [case] = await here.rows(Reconnect)
    assert case.outcome == "reconnected"
    assert len([mail for mail in post.mails if "connected again" in mail["Subject"]]) == 1
    [message] = messages(here)
    said = [reply["text"] for reply in message["replies"]]
    assert sum("30 records backfilled" in text for text in said) == 1, said


async def test_killed_after_makini_deleted_it_disconnecting_is_completed(
    open_house: Opened, post: Post
) -> None:
    here = await opened(open_house, post)
    await work(here)
    [connection, *_] = await here.connections()
    given = {"connection": connection.id, "key": connection.makini_key}
    table = one_of("disconnect", "credential", "connection", "incident")
    await killed(here, "disconnect", table, **given)
    assert here.fleet.world.find(connection.makini_key) is None
    assert (await here.connection(connection.id)).setup != "disconnected"
    await disconnect(here.rt, connection.id, confirm=connection.makini_key, by="Petra")
    assert (await here.connection(connection.id)).setup == "disconnected"
    assert await here.rows(Credential, Credential.connection_id == connection.id) == []
    assert [row.status for row in await here.incidents()] == ["resolved"]
