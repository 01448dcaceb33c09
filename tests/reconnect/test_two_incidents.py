"""A customer with several lost logins at about the same time gets one mail that names them all."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from typing import Any

from sqlalchemy import event, text, update
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.config import HealthPolicy
from linekeeper.orchestrator import Blocks
from linekeeper.outbox.dispatcher import Dispatcher
from linekeeper.outbox.sender import OutboxRow, Result
from linekeeper.outbox.senders.mail import MailSender
from linekeeper.outbox.senders.reconnect import advance_due_cases
from linekeeper.reconnect.ask import advance_case
from linekeeper.runtime import Runtime
from linekeeper.store.configuration import SharedConfiguration, save_blocks
from linekeeper.store.tables import Connection, Outbox
from linekeeper.sweep.batch import probe_batch
from tests.delivering import deliver_mail
from tests.reconnect.conftest import House
from tests.reconnect.post import Post, listening, text_of
from tests.reconnect.test_ask import Opened, asking, outbox, work


async def two_of_one_customer(here: House) -> tuple[Connection, Connection]:
    first, second, *_ = await here.connections()
    async with here.store.write() as session:
        change = update(Connection).where(col(Connection.id) == second.id)
        await session.execute(change.values(customer_id=first.customer_id))
    return first, second


async def two_lost(here: House) -> list[Connection]:
    """Two systems of one customer, each in an incident of its own; nobody has been asked yet."""
    first, second = await two_of_one_customer(here)
    for each in (first, second):
        await here.control(f"connections/{each.makini_key}/change-credentials")
    await here.sweep()
    assert len(await here.incidents()) == 2
    return [first, second]


def links(post: Post) -> list[int]:
    return [text_of(mail).count("/connect/") for mail in post.mails]


async def test_two_incidents_of_a_customer_are_one_mail(
    open_house: Opened,
) -> None:
    async with listening() as post:
        here = await asking(open_house, post.url)
        await two_lost(here)
        await work(here)
        assert links(post) == [2]
        asks = [row for row in await outbox(here, "email") if row.payload["do"] == "ask"]
        assert [row.status for row in asks] == ["sent", "superseded"]
        await here.sweep()
        await work(here)
        assert links(post) == [2]


async def test_a_mail_waits_for_the_other_case_that_is_about_to_ask(open_house: Opened) -> None:
    """The mail of the first had gone before the second case was looked at, moments later."""
    async with listening() as post:
        here = await asking(open_house, post.url)
        await two_lost(here)
        first, _ = await here.incidents()
        await advance_case(here.rt, first.id, now=utcnow())
        await deliver_mail(here.rt)
        assert not post.mails
        await advance_due_cases(here.rt)
        async with asyncio.timeout(30):
            while not post.mails:
                await deliver_mail(here.rt)
                await asyncio.sleep(0.1)
        await work(here)
        assert links(post) == [2]


async def test_a_mail_after_the_first_has_gone_answers_it_and_says_also(open_house: Opened) -> None:
    async with listening() as post:
        here = await asking(open_house, post.url)
        first, second = await two_of_one_customer(here)
        for lost in (first, second):
            await here.lose_login(lost)
            await here.sweep()
            await work(here)
        asked, also = post.mails
        assert also["In-Reply-To"] == asked["Message-ID"]
        assert str(asked["References"]) in str(also["References"])
        assert "also" not in str(asked["Subject"])
        assert str(also["Subject"]).startswith("Please also log in to ")
        assert "one more login than our last mail asked for" in text_of(also)


async def test_where_the_first_mail_is_given_up_the_second_goes(open_house: Opened) -> None:
    async with listening() as post:
        here = await asking(open_house, post.url)
        await two_lost(here)
        await advance_due_cases(here.rt)
        first, _ = await outbox(here, "email")
        async with here.store.write() as session:
            change = update(Outbox).where(col(Outbox.id) == first.id)
            await session.execute(change.values(status="dead"))
        await work(here)
        assert links(post) == [1]


async def test_what_is_asked_while_a_mail_is_prepared_is_not_mailed_twice(
    open_house: Opened,
) -> None:
    """Both are one incident: the mail names the second system, which was lost by then."""
    async with listening() as post:
        here = await asking(open_house, post.url)
        first, second = await two_of_one_customer(here)
        policy = HealthPolicy(root_cause_members=2)
        await save_blocks(here.store, Blocks(policy=policy), now=utcnow())
        here.rt.configuration = SharedConfiguration(here.store, here.rt.settings).read
        app = await here.rt.app("default")
        await here.lose_login(first)
        await advance_due_cases(here.rt)

        class Slow(MailSender):
            """Meanwhile the other login is lost, and asked for."""

            async def send(self, row: OutboxRow) -> Result:
                if not post.mails:
                    await here.control(f"connections/{second.makini_key}/change-credentials")
                    now = utcnow()
                    await probe_batch(here.rt, app, [second.id], started=now, last_try=True)
                    await advance_due_cases(here.rt)
                return await super().send(row)

        async with Dispatcher(here.store, here.rt.owner, Slow(here.rt)) as dispatcher:
            await dispatcher.deliver()
        await work(here)
        [incident] = [each for each in await here.incidents() if each.resolved_at is None]
        assert incident.customer_id == first.customer_id
        assert links(post) == [2]


@contextmanager
def asked_by_another(here: House, *, after: str) -> Iterator[None]:
    """Right after the statement that reads `after` another process asks whom it is to ask.

    What follows waits until that is committed, or waits for a lock of who reads.
    """
    went_on, engine = Event(), here.store.engine.sync_engine
    pool, begun = ThreadPoolExecutor(1), list[Future[None]]()

    async def ask() -> None:
        async with Runtime.open(here.rt.settings) as other:
            asking = asyncio.create_task(advance_due_cases(other))
            while not asking.done() and not await waits_for_a_lock(other):
                await asyncio.sleep(0.02)
            went_on.set()
            await asking

    async def waits_for_a_lock(other: Runtime) -> bool:
        if other.store.is_sqlite:
            return False
        async with other.store.read() as session:
            locks = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
            return bool(await session.scalar(locks))

    def executed(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if not begun and after in statement:
            begun.append(pool.submit(asyncio.run, ask()))
            went_on.wait()

    event.listen(engine, "after_cursor_execute", executed)
    try:
        yield
    finally:
        event.remove(engine, "after_cursor_execute", executed)
        pool.shutdown()
    [asked] = begun
    asked.result()


async def test_what_is_asked_while_a_mail_is_composed_is_named_once(open_house: Opened) -> None:
    """Whoever asks at that moment comes before what is read for the mail, or after all of it."""
    async with listening() as post:
        here = await asking(open_house, post.url)
        first, second = await two_of_one_customer(here)
        policy = HealthPolicy(root_cause_members=2)
        await save_blocks(here.store, Blocks(policy=policy), now=utcnow())
        here.rt.configuration = SharedConfiguration(here.store, here.rt.settings).read
        app = await here.rt.app("default")
        await here.lose_login(first)
        await advance_due_cases(here.rt)

        class Composing(MailSender):
            """The other login is lost as it begins, and asked for once it knows what waits."""

            async def send(self, row: OutboxRow) -> Result:
                await here.control(f"connections/{second.makini_key}/change-credentials")
                await probe_batch(here.rt, app, [second.id], started=utcnow(), last_try=True)
                with asked_by_another(here, after="outbox.claimed_by IS NULL"):
                    return await super().send(row)

        async with Dispatcher(here.store, here.rt.owner, Composing(here.rt)) as dispatcher:
            await dispatcher.deliver()
        await work(here)
        assert links(post) == [1, 2]
