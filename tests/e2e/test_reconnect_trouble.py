"""What may happen to a reconnect while it waits: answers, cancelled runs, everything killed."""

import asyncio
import html
import re
import signal
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psutil
import pytest
from prefect.states import Cancelled
from sqlmodel import col, select

from linekeeper.store.tables import Connection, Incident, Reconnect
from tests.e2e import forked_runs
from tests.e2e.conftest import MAIL_ACCOUNT, House, until
from tests.e2e.test_reconnect import ask_for_a_login, message_about, rows, waiting_run
from tests.reconnect.post import Post, listening, text_of

KEPT = {"sandbox", "linekeeper.cli.reaper"}
"""The sandbox is the world, and the world goes on."""
pytestmark = [pytest.mark.e2e, pytest.mark.soak]


@pytest.fixture
async def post(house: House) -> AsyncIterator[Post]:
    async with listening(house.ports["mail"], account=MAIL_ACCOUNT) as server:
        yield server


async def log_in(house: House, post: Post, connection: Connection, *, to: str = "") -> str:
    """Go the customer's way without a browser, by the mail `to` them; returns the last page."""

    async def asked() -> Any:
        return next((mail for mail in post.mails if to in mail["To"]), None)

    mail = await until(asked, what="the mail")
    [link] = re.findall(r"http://\S+/connect/[\w-]+", text_of(mail))
    shown = await house.http.get(link)
    [href] = re.findall(r'<a class="go" href="([^"]+)"', shown.text)
    asked = {k: v[0] for k, v in parse_qs(urlsplit(html.unescape(href)).query).items()}
    form = {"connection": connection.makini_key, "username": "pat", "password": "new"}
    answer = await house.http.post(
        f"{house.url('sandbox')}/oauth/authorize", data={**asked, **form, "answer": "approve"}
    )
    return (await house.http.get(answer.headers["location"])).text


async def reconnected(house: House, incident: Incident) -> Reconnect:
    async def closed() -> Reconnect | None:
        [case] = await rows(
            house, select(Reconnect).where(col(Reconnect.incident_id) == incident.id)
        )
        return case if case.closed_at is not None else None

    case: Reconnect = await until(closed, what="the case to close", seconds=300)
    return case


def children(house: House) -> list[psutil.Process]:
    return psutil.Process(house.process.pid).children(recursive=True)


async def test_an_answer_is_taken_once_and_the_run_waits_on(house: House, post: Post) -> None:
    connection, _, incident, run = await ask_for_a_login(house, post)
    answer = {"note": "They call back at noon", "snooze": "4 hours", "by": "Petra"}
    async with house.prefect() as client:
        await client.resume_flow_run(run.id, run_input=answer)

    async def waits_again() -> Any:
        [case] = await rows(
            house, select(Reconnect).where(col(Reconnect.incident_id) == incident.id)
        )
        return case.answers == 1 and await waiting_run(house, incident.id)

    await until(waits_again, what="the run to wait again", seconds=240)

    async def noted() -> bool:
        return "They call back at noon" in str(await message_about(house, run.name))

    await until(noted, what="the note in the thread")
    assert "Done" in await log_in(house, post, connection)
    assert (await reconnected(house, incident)).outcome == "reconnected"
    ended = await house.ended(run.id)
    assert ended.state is not None
    assert ended.state.name == "Reconnected"


async def test_a_run_that_was_cancelled_while_waiting_is_followed_by_another(
    house: House, post: Post
) -> None:
    connection, _, incident, run = await ask_for_a_login(house, post)
    async with house.prefect() as client:
        await client.set_flow_run_state(run.id, Cancelled(), force=True)
    await house.trigger("health-sweep")
    other = await until(lambda: waiting_run(house, incident.id), what="another run", seconds=90)
    assert other.id != run.id
    assert "Done" in await log_in(house, post, connection)
    assert (await reconnected(house, incident)).outcome == "reconnected"
    assert [m["Subject"] for m in post.mails if "Please log in" in m["Subject"]] == [
        post.mails[0]["Subject"]
    ]


@pytest.mark.parametrize("who", ["everything", "the run"])
async def test_killed_while_it_waits_or_as_it_works_it_completes_and_says_all_once(
    house: House, post: Post, who: str
) -> None:
    connection, _, incident, run = await ask_for_a_login(house, post)
    if who == "everything":
        for child in children(house):
            if not KEPT.intersection(" ".join(child.cmdline()).split()):
                child.send_signal(signal.SIGKILL)

        async def back() -> bool:
            try:
                alive = await house.http.get(f"{house.url('prefect')}/api/health")
                ready = await house.http.get(f"{house.url('receiver')}/readyz")
            except Exception:
                return False
            return alive.status_code == ready.status_code == 200

        await until(back, what="everything to be back", seconds=120)
    assert "Done" in await log_in(house, post, connection)
    if who == "the run":
        process = await until(lambda: running(house), what="the run's process", seconds=60)
        process.send_signal(signal.SIGKILL)

        async def crashed() -> bool:
            async with house.prefect() as client:
                state = (await client.read_flow_run(run.id)).state
            return state is not None and state.is_final()

        await until(crashed, what="the worker to notice", seconds=90)
        await house.trigger("health-sweep")
    case = await reconnected(house, incident)
    assert case.outcome == "reconnected"
    message = await message_about(house, run.name)
    assert message is not None
    replies = [reply["text"] for reply in message["replies"]]
    assert len(replies) == len(set(replies))
    await until(lambda: post.with_subject("connected again"), what="the thanks")
    assert len([m for m in post.mails if "connected again" in m["Subject"]]) == 1


async def running(house: House) -> psutil.Process | None:
    await asyncio.sleep(0)
    for child in children(house):
        try:
            if forked_runs.__file__ in child.cmdline():  # what the worker starts for each run
                return child
        except psutil.NoSuchProcess:
            continue
    return None
