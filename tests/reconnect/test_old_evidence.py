"""What was seen last before nothing of Linekeeper ran for hours is asked about, and then told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import or_
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.config import AlertPolicy
from linekeeper.makini import ErrorKind, MakiniError
from linekeeper.notify.evaluate import evaluate_alerts
from linekeeper.orchestrator import Blocks
from linekeeper.outbox.senders.reconnect import advance_due_cases
from linekeeper.store.configuration import SharedConfiguration, save_blocks
from linekeeper.store.tables import Connection, Outbox
from linekeeper.sweep.app import list_failed
from linekeeper.watch.queries import done
from tests.notify.test_fallback_channels import Pager, taking

from .conftest import House
from .post import Post, listening
from .test_ask import Opened, asking, work
from .test_contact_later import consumer
from .test_kills import deliver_slack, messages, with_slack
from .working_clock import at

pytestmark = [
    pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning"),
    # PostgreSQL has a clock of its own, which hours can't be added to.
    pytest.mark.parametrize("engine", ["sqlite"], indirect=True, scope="session"),
]

STANDSTILL = timedelta(hours=5)
"""By its end the first reminder and the escalation are due."""


@pytest.fixture
async def post() -> AsyncIterator[Post]:
    async with listening() as server:
        yield server


@pytest.fixture
async def pager(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pager]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with taking() as one:
        yield one


async def alerting(open_house: Opened, post: Post, pager: Pager, **more: Any) -> House:
    """A house that mails, has a Slack, and a pager for what nobody takes."""
    house = await asking(open_house, post.url, **more)
    await with_slack(house)
    pager_url = SecretStr(f"json://127.0.0.1:{pager.port}/")
    blocks = Blocks(alerts=AlertPolicy(elsewhere=(pager_url,), escalate_from="low"))
    await save_blocks(house.store, blocks, now=utcnow())
    house.rt.configuration = SharedConfiguration(house.store, house.rt.settings).read
    return house


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await holds():
            await asyncio.sleep(0.05)


async def is_over(house: House) -> bool:
    return all(incident.resolved_at for incident in await house.incidents())


async def is_settled(house: House) -> bool:
    """Whether nothing is left that a person is to be told now."""
    is_due = or_(col(Outbox.claimed_by).is_not(None), col(Outbox.next_attempt_at) <= utcnow())
    channels = col(Outbox.channel).in_(("slack", "elsewhere"))
    return not await house.rows(Outbox, channels, col(Outbox.status) == "pending", is_due)


def reminded(house: House) -> list[str]:
    """What Slack was told that calls somebody again."""
    said = [str(message) for message in messages(house)]
    return [text for text in said if "not acknowledged" in text or "nobody acknowledged" in text]


def paged(pager: Pager) -> list[str]:
    """What somebody was called for; that something is over calls nobody."""
    return [call["title"] for call in pager.heard if call["type"] == "failure"]


async def after_standstill(house: House, moment: datetime) -> None:
    """Linekeeper runs again: its consumer, until it has nothing to say."""
    with at(moment):
        async with consumer(house):
            await asyncio.sleep(2)
            await until(lambda: is_settled(house))


async def in_trouble(house: House, trouble: str) -> Connection:
    """A connection in `trouble`, of which Slack was told."""
    [connection, *_] = await house.connections()
    await house.control(f"connections/{connection.makini_key}/{trouble}")
    for _ in range(3):
        await house.sweep()
    await advance_due_cases(house.rt)
    await deliver_slack(house)
    return connection


@pytest.mark.parametrize(
    ("trouble", "cure"),
    [("change-credentials", "restore-credentials"), ("go-offline", "come-online")],
)
async def test_nobody_is_reminded_or_paged_of_what_was_over_before_linekeeper_ran_again(
    open_house: Opened, post: Post, pager: Pager, trouble: str, cure: str
) -> None:
    house = await alerting(open_house, post, pager)
    connection = await in_trouble(house, trouble)
    await house.control(f"connections/{connection.makini_key}/{cure}")
    await after_standstill(house, utcnow() + STANDSTILL)
    assert await is_over(house)
    assert (reminded(house), paged(pager)) == ([], [])


@pytest.mark.parametrize("trouble", ["change-credentials", "go-offline"])
async def test_who_is_still_in_trouble_is_reminded_of_and_paged_about_at_once(
    open_house: Opened, post: Post, pager: Pager, trouble: str
) -> None:
    house = await alerting(open_house, post, pager)
    await in_trouble(house, trouble)
    await after_standstill(house, utcnow() + STANDSTILL)
    assert not await is_over(house)
    assert (bool(reminded(house)), len(paged(pager))) == (True, 1)


async def test_where_makini_does_not_answer_operators_are_reminded_all_the_same(
    open_house: Opened, post: Post, pager: Pager
) -> None:
    house = await alerting(open_house, post, pager)
    await in_trouble(house, "change-credentials")
    await house.control("settings", status="500")
    await after_standstill(house, utcnow() + STANDSTILL)
    assert (bool(reminded(house)), len(paged(pager))) == (True, 1)


async def test_a_reminder_and_a_page_that_waited_meanwhile_are_not_sent_of_what_is_over(
    open_house: Opened, post: Post, pager: Pager
) -> None:
    house = await alerting(open_house, post, pager)
    connection = await in_trouble(house, "go-offline")
    due = utcnow() + STANDSTILL
    await evaluate_alerts(house.store, await house.rt.configuration(), now=due)
    assert len(await house.rows(Outbox, col(Outbox.channel) == "elsewhere")) == 1
    await house.control(f"connections/{connection.makini_key}/come-online")
    await after_standstill(house, due + STANDSTILL)
    assert await is_over(house)
    assert (reminded(house), paged(pager)) == ([], [])


async def waiting(open_house: Opened, post: Post) -> tuple[House, Connection]:
    """A lost login whose customer is to be mailed, when Linekeeper stops."""
    house = await asking(open_house, post.url)
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    await advance_due_cases(house.rt)
    return house, connection


async def test_a_customer_whose_mail_waited_is_not_asked_for_a_login_that_works_again(
    open_house: Opened, post: Post
) -> None:
    house, connection = await waiting(open_house, post)
    await house.control(f"connections/{connection.makini_key}/restore-credentials")
    with at(utcnow() + STANDSTILL):
        await work(house)
    assert await is_over(house)
    assert [mail["Subject"] for mail in post.mails] == []


async def test_a_customer_whose_login_is_still_lost_is_asked_at_once(
    open_house: Opened, post: Post
) -> None:
    house, _ = await waiting(open_house, post)
    with at(utcnow() + STANDSTILL):
        await work(house)
    assert len(post.mails) == 1


async def test_while_makini_does_not_answer_a_mail_that_waited_waits_on(
    open_house: Opened, post: Post
) -> None:
    house, _ = await waiting(open_house, post)
    await house.control("settings", status="500")
    later = utcnow() + STANDSTILL
    with at(later):
        await work(house)
    assert post.mails == []
    await house.control("settings", status="")
    with at(later + timedelta(minutes=2)):
        await work(house)
    assert len(post.mails) == 1


@pytest.mark.parametrize("is_over_there", [True, False])
async def test_who_has_no_token_is_looked_up_in_makinis_list(
    open_house: Opened, post: Post, pager: Pager, is_over_there: bool
) -> None:
    house = await alerting(open_house, post, pager, makini_mode="observe")
    connection = await in_trouble(house, "deactivate")
    if is_over_there:
        await house.control(f"connections/{connection.makini_key}/activate")
    await after_standstill(house, utcnow() + STANDSTILL)
    assert await is_over(house) is is_over_there
    assert bool(reminded(house) and paged(pager)) is not is_over_there


@pytest.mark.parametrize("hours", [0, 5])
async def test_a_list_that_failed_is_read_to_tell_of_it_where_no_sweep_has_just_done_so(
    open_house: Opened, post: Post, pager: Pager, hours: int
) -> None:
    house = await alerting(open_house, post, pager)
    app = await house.rt.app("default")
    with at(utcnow() - timedelta(hours=hours)):
        error = MakiniError(ErrorKind.unavailable, "Makini answers 500", app=app.name, status=500)
        await list_failed(house.store, app, error, now=utcnow())
        await done(house.store, "sweep")
    await after_standstill(house, utcnow())
    assert await is_over(house) is (hours > 0)
