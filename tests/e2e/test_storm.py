"""Everybody of one provider loses the login within a minute, and gets it back: all of it running.

Run it with `make soak`; it prints what it saw.
"""

import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from prefect.client.schemas.objects import FlowRun
from sqlmodel import col, select

from linekeeper.store.tables import (
    Connection,
    Contact,
    Customer,
    Incident,
    Reconnect,
)
from tests.e2e.conftest import MAIL_ACCOUNT, House, living, until
from tests.e2e.test_reconnect import rows
from tests.e2e.test_reconnect_trouble import log_in
from tests.reconnect.post import Post, listening

HOW_MANY = 500
SECONDS = 60.0
BY_THEMSELVES = 25
"""So many log in by their link; the others are mended at their system."""
pytestmark = [pytest.mark.e2e, pytest.mark.soak, pytest.mark.timeout(1_500)]


class Watch:
    """Asks Prefect's server something every half a second."""

    def __init__(self, house: House) -> None:
        self._url = house.url("prefect")
        self.took: list[float] = []
        self.failed: list[str] = []

    async def keep(self) -> None:
        async with httpx.AsyncClient(base_url=self._url, timeout=20) as http:
            while True:
                began = time.monotonic()
                try:
                    answer = await http.post("/api/flow_runs/filter", json={"limit": 5})
                    answer.raise_for_status()
                except httpx.HTTPError as error:
                    self.failed.append(f"{type(error).__name__}: {error}")
                self.took.append(time.monotonic() - began)
                await asyncio.sleep(0.5)

    @property
    def worst(self) -> float:
        return max(self.took)


@asynccontextmanager
async def watched(house: House) -> AsyncIterator[Watch]:
    watch = Watch(house)
    task = asyncio.create_task(watch.keep())
    try:
        yield watch
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def settled_in(house: House) -> list[Connection]:
    """`HOW_MANY` more of UpKeep, each of a customer with a contact, adopted and well."""
    for number in range(HOW_MANY):
        await house.control(
            "connections",
            name=f"Customer {number:03} · UpKeep",
            provider="upkeep",
            email=f"it@c{number}.example",
        )
    async with house.prefect() as client:
        found = await client.read_deployment_by_name("health-sweep/health-sweep")
        run = await client.create_flow_run_from_deployment(found.id)
    await house.ended(run.id, seconds=400)
    async with house.store() as store, store.write() as session:
        for customer in await session.scalars(select(Customer)):
            session.add(Contact(customer_id=customer.id, email=f"it@{customer.slug}.example"))
    ones = await rows(house, select(Connection).where(col(Connection.provider) == "UpKeep"))
    assert len(ones) >= HOW_MANY
    assert {one.health for one in ones} == {"healthy"}
    return ones


async def lose(house: House, ones: Sequence[Connection]) -> None:
    """One after the other, within `SECONDS`; Makini tells us of each."""
    order = random.Random(7).sample(list(ones), len(ones))
    began = time.monotonic()
    for number, connection in enumerate(order):
        await house.control(f"connections/{connection.makini_key}/change-credentials")
        ahead = began + SECONDS * number / len(order) - time.monotonic()
        await asyncio.sleep(max(0.0, ahead))


def asked(post: Post) -> Counter[str]:
    return Counter(mail["To"] for mail in post.mails if "Please log in" in mail["Subject"])


def thanked(post: Post) -> Counter[str]:
    return Counter(mail["To"] for mail in post.mails if "connected again" in mail["Subject"])


async def reconnects(house: House) -> list[FlowRun]:
    """Every run of `reconnect` there was."""
    return [run for run in await house.runs() if "incident" in run.parameters]


async def threads(house: House) -> list[dict[str, Any]]:
    """The messages that begin a thread and are about lost logins."""
    return [
        message
        for message in await house.slack()
        if not message.get("thread_ts") and "UpKeep" in str(message)
    ]


async def test_a_provider_loses_all_logins_within_a_minute_and_gets_them_back(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with (
        living(connections=4) as house,
        listening(house.ports["mail"], account=MAIL_ACCOUNT) as post,
    ):
        ones = await settled_in(house)
        customers = {one.customer_id for one in ones}
        async with watched(house) as watch:
            began = time.monotonic()
            await lose(house, ones)
            lost = time.monotonic() - began

            async def everybody_asked() -> bool:
                return len(asked(post)) == len(customers)

            await until(everybody_asked, seconds=300, what="a mail to each")
            mailed = time.monotonic() - began

            async def one_waits() -> bool:
                return [run.state_name for run in await reconnects(house)] == ["Suspended"]

            await until(one_waits, seconds=200, what="one run that waits, and no other")
            await asyncio.sleep(25)  # whatever else would come is there by then
            open_ones = await rows(
                house, select(Incident).where(col(Incident.resolved_at).is_(None))
            )
            assert [(one.scope, one.provider) for one in open_ones] == [("provider", "UpKeep")]
            [run] = await reconnects(house)
            assert run.parameters == {"incident": open_ones[0].id}
            [thread] = await threads(house)
            assert set(asked(post).values()) == {1}
            await house.trigger("health-sweep")
            [run] = await reconnects(house)
            assert run.name == open_ones[0].title == f"UpKeep · {len(ones)} connections"

            began = time.monotonic()
            for connection in ones[:BY_THEMSELVES]:
                [owner] = await rows(
                    house, select(Customer).where(Customer.id == connection.customer_id)
                )
                page = await log_in(house, post, connection, to=f"it@{owner.slug}.example")
                assert "Done" in page
            await house.control("providers/upkeep/restore-credentials")
            await house.trigger("health-sweep")

            async def closed() -> bool:
                cases = await rows(house, select(Reconnect))
                return all(case.closed_at is not None for case in cases)

            await until(closed, seconds=600, what="the case to close")
            ended = await house.ended(run.id)
            assert ended.state is not None
            assert ended.state.name == "Reconnected", ended.state.message

            async def everybody_thanked() -> bool:
                return len(thanked(post)) == len(customers)

            await until(everybody_thanked, seconds=300, what="the thanks")
            over = time.monotonic() - began
        assert len(await reconnects(house)) == 1
        assert not await rows(house, select(Incident).where(col(Incident.resolved_at).is_(None)))
        assert set(asked(post).values()) == set(thanked(post).values()) == {1}

        async def green() -> Any:
            [now] = await threads(house)
            return now if "large_green_circle" in str(now) else None

        settled = await until(green, seconds=120, what="the thread to turn green")
        assert settled["ts"] == thread["ts"]
        report = (
            f"{len(ones)} logins lost within {lost:.0f} s: each customer mailed after "
            f"{mailed:.0f} s, 1 run, 1 thread with {len(settled['replies'])} replies; all closed "
            f"{over:.0f} s after they came back. Prefect was asked {len(watch.took)} times, "
            f"failed {len(watch.failed)}, worst {watch.worst:.1f} s"
        )
        with capsys.disabled():
            sys.stdout.write(f"\n{report}\n")
        assert watch.failed == []
