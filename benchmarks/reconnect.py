"""A lost login: from Makini's webhook to the customer's mail, and from the login to backfilled.

Receiver, the consumer's loops and a real SMTP server in one process, beside the sandbox, on
SQLite. A worker's own start (about 8 s of a run) is not in `caught_up_1000_s`.
"""

import asyncio
import json
import re
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
from aiosmtpd.smtp import SMTP
from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlalchemy import select, update
from sqlmodel import col

import sandbox
from linekeeper.clock import utcnow
from linekeeper.consumer.connection_events import process_connection_events
from linekeeper.outbox.senders.mail import mailing
from linekeeper.outbox.senders.reconnect import advance_due_cases
from linekeeper.receiver import serve
from linekeeper.reconcile.backfill import reconcile_window
from linekeeper.reconnect.counts import keep_counts
from linekeeper.reconnect.process import close, verify_login
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.migrate import migrate
from linekeeper.store.tables import Connection, Contact, Customer, Reconnect
from linekeeper.sweep.batch import probe_batch
from linekeeper.sweep.sweep import due, take_list

LOSSES = 40
PAUSE = 0.25
STORM = 500
RECORDS = 1_000
GOALS = {"webhook_to_mail_p95_s": 3.0, "caught_up_1000_s": 30.0, "storm_500_mailed_s": 60.0}


class Post:
    """What it was sent: when and what, by address."""

    def __init__(self) -> None:
        self.mails: dict[str, tuple[float, str]] = {}

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        """Take a mail."""
        message = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        body = message.get_body(("plain",))
        text = str(body.get_content()) if body else ""
        for address in envelope.rcpt_tos:
            self.mails.setdefault(address, (time.monotonic(), text))
        return "250 OK"


class House:
    """Linekeeper without Prefect, beside a Makini."""

    def __init__(self, rt: Runtime, fleet: sandbox.Served, post: Post) -> None:
        self.rt, self.fleet, self.post = rt, fleet, post

    async def sweep(self) -> None:
        """List and probe everything."""
        app, started = await self.rt.app("default"), utcnow()
        policy = (await self.rt.configuration()).policy
        await take_list(self.rt, app, now=started)
        for ids in (await due(self.rt, app, policy, now=started)).batches:
            await probe_batch(self.rt, app, ids, started=started, last_try=True)

    async def connections(self, provider: str) -> list[Connection]:
        """Those of `provider`."""
        async with self.rt.store.read() as session:
            rows = await session.scalars(
                select(Connection).where(col(Connection.provider) == provider)
            )
            return list(rows)

    async def consume(self) -> None:
        """The consumer's loops, until cancelled."""
        rt = self.rt

        mails = mailing(rt)

        async def mail() -> bool:
            return bool(await mails.deliver())

        async def keep(step: Callable[[], Awaitable[bool]]) -> None:
            while True:
                if not await step():
                    await asyncio.sleep(0.05)

        async with asyncio.TaskGroup() as group:
            for step in (
                lambda: process_connection_events(rt),
                lambda: advance_due_cases(rt),
                mail,
            ):
                group.create_task(keep(step))


@asynccontextmanager
async def opened(home: Path) -> AsyncIterator[House]:
    """A house with a fleet of singles and a provider of many, each customer with an address."""
    async with AsyncExitStack() as stack:
        box = sandbox.Settings(port=0, connections=0, records_per_connection=20)
        fleet = await stack.enter_async_context(sandbox.serving(box))
        for number in range(4 * LOSSES):
            fleet.world.create(name=f"Single {number} · Fiix", email="a@b.example", provider="fiix")
        for number in range(STORM):
            fleet.world.create(
                name=f"Many {number} · UpKeep", email="a@b.example", provider="upkeep"
            )
        post = Post()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: SMTP(post), "127.0.0.1", 0)
        stack.push_async_callback(server.wait_closed)
        stack.callback(server.close)
        settings = Settings(
            home=home,
            encryption_keys=(SecretStr(Fernet.generate_key().decode()),),
            makini_api_url=fleet.url,
            makini_link_url=fleet.url,
            makini_client_id=box.client_id,
            makini_client_secret=SecretStr(box.client_secret),
            makini_webhook_secrets=(SecretStr(box.webhook_secret),),
            makini_mode="manage",
            makini_per_minute=0,
            probe_minutes=0,
            receiver_port=0,
            notify_customers=True,
            smtp_url=SecretStr(f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}"),
            mail_from="Line <line@operator.example>",
        )
        async with Store.open(settings) as store:
            await migrate(store)
        listener = stack.enter_context(serve.listening(settings))
        url = serve.address(listener)
        rt = await stack.enter_async_context(
            Runtime.open(settings.model_copy(update={"public_url": url}))
        )
        await stack.enter_async_context(serve.serving(rt, listener))
        fleet.world.settings.webhook_url = f"{url}/webhooks/default"
        house = House(rt, fleet, post)
        await house.sweep()
        async with rt.store.write() as session:
            for customer in await session.scalars(select(Customer)):
                address = f"it@{customer.slug}.example"
                session.add(Contact(customer_id=customer.id, email=address))
        yield house


async def measure() -> dict[str, Any]:
    """All of it, one after the other."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        async with opened(Path(folder)) as house:
            consuming = asyncio.create_task(house.consume())
            try:
                waits = await one_after_the_other(house)
                caught_up = await login_and_catch_up(house)
                storm = await all_at_once(house)
            finally:
                consuming.cancel()
                await asyncio.gather(consuming, return_exceptions=True)
    return {
        "losses": LOSSES,
        "webhook_to_mail_p50_s": round(waits[len(waits) // 2], 3),
        "webhook_to_mail_p95_s": round(waits[int(len(waits) * 0.95)], 3),
        "caught_up_1000_s": round(caught_up, 2),
        "storm_500_mailed_s": round(storm, 2),
        "goals": GOALS,
    }


async def one_after_the_other(house: House) -> list[float]:
    """Seconds from each loss to its mail, sorted."""
    lost: dict[str, float] = {}
    for connection in (await house.connections("Fiix"))[:LOSSES]:
        address = await _address(house, connection)
        system = house.fleet.world.find(connection.makini_key)
        assert system is not None
        lost[address] = time.monotonic()
        house.fleet.world.change_credentials(system)
        await asyncio.sleep(PAUSE)
    await _until(lambda: lost.keys() <= house.post.mails.keys())
    return sorted(house.post.mails[address][0] - at for address, at in lost.items())


async def login_and_catch_up(house: House) -> float:
    """Seconds from the customer's callback until `RECORDS` are fetched and the case is closed."""
    rt, connection = house.rt, (await house.connections("Fiix"))[0]
    system = house.fleet.world.find(connection.makini_key)
    assert system is not None
    async with rt.store.write() as session:
        earlier = utcnow() - timedelta(minutes=10)
        await session.execute(
            update(Connection)
            .where(col(Connection.id) == connection.id)
            .values(last_good_at=earlier)
        )
    entity = next(iter(house.fleet.world.records.of(system)))
    house.fleet.world.change_records(system, entity, make=RECORDS, announce=False)
    text = house.post.mails[await _address(house, connection)][1]
    [link] = re.findall(r"http://\S+/connect/[\w-]+", text)
    async with httpx.AsyncClient(timeout=60) as http:
        shown = (await http.get(link)).text
        [href] = re.findall(r'<a class="go" href="([^"]+)"', shown)
        asked = {k: v[0] for k, v in parse_qs(urlsplit(unescape(href)).query).items()}
        form = {
            "connection": connection.makini_key,
            "username": "a",
            "password": "b",
            "answer": "approve",
        }
        back = await http.post(f"{house.fleet.url}/oauth/authorize", data={**asked, **form})
        began = time.monotonic()
        assert (await http.get(back.headers["location"])).status_code == 200
    async with rt.store.read() as session:
        case = await _case_of(session, connection.id)
    since, until = utcnow() - timedelta(minutes=10), utcnow()
    await verify_login(rt, connection.id)
    counts = await reconcile_window(rt, connection.id, since)
    kept = await keep_counts(rt, case, connection.id, counts, since=since, until=until)
    await close(rt, case, "reconnected", now=utcnow())
    assert kept["caught_up"] >= RECORDS, kept
    return time.monotonic() - began


async def all_at_once(house: House) -> float:
    """Seconds until every customer of a provider that fails as a whole has the mail."""
    many = await house.connections("UpKeep")
    expected = {await _address(house, connection) for connection in many}
    began = time.monotonic()
    for connection in many:
        system = house.fleet.world.find(connection.makini_key)
        assert system is not None
        house.fleet.world.change_credentials(system)
    await _until(lambda: expected <= house.post.mails.keys())
    return time.monotonic() - began


async def _case_of(session: Any, connection_id: str) -> str:
    cases = await session.scalars(select(Reconnect))
    return str(next(case.incident_id for case in cases if connection_id in case.windows))


async def _address(house: House, connection: Connection) -> str:
    async with house.rt.store.read() as session:
        address = await session.scalar(
            select(col(Contact.email)).where(
                col(Contact.customer_id) == connection.customer_id,
                col(Contact.email).startswith("it@"),  # not the one that Makini's list names
            )
        )
    return str(address)


async def _until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(120):
        while not done():
            await asyncio.sleep(0.02)


def run() -> dict[str, Any]:
    """The figures."""
    return asyncio.run(measure())


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
