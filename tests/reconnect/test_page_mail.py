"""The link to a customer's page goes out by mail, and to nobody but the customer."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from pydantic import SecretStr
from sqlalchemy import update
from sqlmodel import col

from linekeeper.access.modes import WantedMode, change, find_subjects
from linekeeper.access.page_links import page_link
from linekeeper.clock import utcnow
from linekeeper.customer_page.links import NotMailed, give_link, mail_link, revoke_link
from linekeeper.outbox.queue import Message, enqueue
from linekeeper.store.tables import Audit, Contact, Customer, Outbox

from .conftest import House
from .post import listening, text_of
from .test_ask import asking, work

Opened = Callable[..., Awaitable[House]]


async def test_a_customer_is_mailed_the_link_once_and_nothing_else_has_it(
    open_house: Opened,
) -> None:
    async with listening() as post:
        house = await asking(open_house, post.url)
        customer = (await house.rows(Customer))[0]
        now = utcnow().replace(second=1) - timedelta(minutes=5)
        for _ in range(2):
            await mail_link(house.rt, customer.name, by="Petra", now=now)
        await work(house)
        [mail] = post.mails
        assert mail["To"] == f"it@{customer.slug}.example"
        url = house.rt.settings.resolved_public_url
        given = await give_link(house.store, url, customer.name, by="Petra", now=now)
        assert given.url in text_of(mail)
        secret = given.url.rpartition("/")[2]
        for row in (*await house.rows(Outbox), *await house.rows(Audit)):
            assert secret not in repr(row)
        await mail_link(house.rt, customer.name, by="Petra", now=now + timedelta(minutes=2))
        await revoke_link(house.store, customer.name, by="Petra", now=now)
        await work(house)
        assert len(post.mails) == 1
        rows = await house.rows(Outbox, col(Outbox.channel) == "email")
        assert sorted(row.status for row in rows) == ["sent", "skipped"]


async def rule(house: House, customer: Customer, *, notify_customers: bool) -> None:
    """What an operator says of all connections of that customer."""
    subjects = await find_subjects(house.rt, customers=[customer.name])
    wanted = WantedMode(subjects, notify_customers=notify_customers)
    await change(house.rt, wanted, by="Petra", now=utcnow())


@pytest.mark.parametrize("lacks", ["mail", "consent", "contact", "mode", "its own consent"])
async def test_why_a_link_is_not_mailed_is_said(open_house: Opened, lacks: str) -> None:
    async with listening() as post:
        more = {} if lacks == "mail" else {"smtp_url": SecretStr(post.url), "mail_from": "a@b.c"}
        if lacks == "mode":
            more["makini_mode"] = "observe"
        house = await open_house(notify_customers=lacks != "consent", **more)
        customer = (await house.rows(Customer))[0]
        if lacks != "contact":
            async with house.store.write() as session:
                session.add(Contact(customer_id=customer.id, email="it@acme.example"))
        if lacks == "its own consent":
            await rule(house, customer, notify_customers=False)
        said = {"mail": "no mail account", "contact": "no contact"}.get(lacks, "not notified")
        with pytest.raises(NotMailed, match=said):
            await mail_link(house.rt, customer.name, by="Petra", now=utcnow())


async def test_a_rule_for_the_customer_decides_whether_it_is_mailed_also_while_the_mail_waits(
    open_house: Opened,
) -> None:
    """What its app says counted alone, and what it said when the mail was asked for."""
    async with listening() as post:
        house = await open_house(
            notify_customers=False, smtp_url=SecretStr(post.url), mail_from="a@b.c"
        )
        [first, second, *_] = await house.rows(Customer)
        async with house.store.write() as session:
            for each in (first, second):
                session.add(Contact(customer_id=each.id, email=f"it@{each.slug}.example"))
        for each in (first, second):
            await rule(house, each, notify_customers=True)
            await mail_link(house.rt, each.name, by="Petra", now=utcnow())
        await rule(house, second, notify_customers=False)
        await work(house)
        assert [mail["To"] for mail in post.mails] == [f"it@{first.slug}.example"]


@pytest.mark.parametrize("planned", [True, False])
async def test_a_mail_is_tried_for_three_days_from_when_it_could_be(
    open_house: Opened, planned: bool
) -> None:
    """It was planned four days ahead, or nobody was there to send it for four days."""
    async with listening() as post:
        house = await asking(open_house, post.url)
        [customer, *_] = await house.rows(Customer)
        now = utcnow()
        async with house.store.write() as session:
            link = await page_link(session, customer.id, by="Petra", now=now)
            payload = {"do": "page", "customer_id": customer.id, "link_id": link.id}
            mail = Message("email", "email:planned", payload, not_before=now if planned else None)
            await enqueue(house.store, session, [mail], now=now - timedelta(days=4))
        post.answer = "451 not now"
        await work(house)
        [row] = await house.rows(Outbox, col(Outbox.channel) == "email")
        assert (row.status, row.attempts) == ("pending", 1), row.error
        [waits] = await house.rows(Outbox, col(Outbox.dedupe_key).startswith("slack:say:"))
        assert "tried again for 3 days" in waits.payload["text"]
        async with house.store.write() as session:
            begun = {"counts_from": utcnow() - timedelta(days=3.1), "next_attempt_at": utcnow()}
            await session.execute(update(Outbox).where(col(Outbox.id) == row.id).values(**begun))
        await work(house)
        [row] = await house.rows(Outbox, col(Outbox.channel) == "email")
        assert row.status == "dead"
