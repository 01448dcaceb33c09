"""A customer that is forgotten is named nowhere, and the numbers stay."""

import pytest
from sqlalchemy import text
from sqlmodel import col, select

from linekeeper.clock import utcnow
from linekeeper.customers.erase import Eraser, erase_customer
from linekeeper.customers.find import NotFound
from linekeeper.outbox.queue import Message, enqueue
from linekeeper.store import Store, new_id
from linekeeper.store.tables import (
    Audit,
    Connection,
    Contact,
    Customer,
    Outbox,
    Record,
    WebhookEvent,
)

NOW = utcnow()


async def people(store: Store) -> str:
    """A customer with everything that names it, beside one with a longer name."""
    acme, other, connection = new_id(), new_id(), new_id()
    async with store.write() as session:
        session.add(Customer(id=acme, name="Acme", slug="acme", created_at=NOW))
        session.add(Customer(id=other, name="Acme Bolt", slug="acme-bolt", created_at=NOW))
        await session.flush()
        session.add(Contact(id=new_id(), customer_id=acme, name="Jo Doe", email="jo@acme.example"))
        session.add(
            Connection(
                id=connection,
                app="default",
                makini_key="c1",
                customer_id=acme,
                name="Acme - SAP",
                slug="acme-sap",
                email="it@acme.example",
                health_since=NOW,
                created_at=NOW,
            )
        )
        await session.flush()
        said = {"what": "Acme · SAP was mailed to Jo Doe <jo@acme.example>", "n": 3}
        session.add(Audit(at=NOW, by="anna", action="x", subject="Acme · SAP", detail=said))
        session.add(Audit(at=NOW, by="anna", action="y", subject="Acme Bolt · SAP", detail={}))
        session.add(Record(connection_id=connection, entity="eam/assets", key="1", hash="h"))
        session.add(
            WebhookEvent(
                id=new_id(),
                app="default",
                delivery_key="d",
                status="processed",
                connection_id=connection,
                kind="record.updated",
                lane="l",
                received_at=NOW,
                next_attempt_at=NOW,
                body=b'{"who": "Acme"}',
            )
        )
        mail = Message("mail", "mail:1", {"to": ["jo@acme.example"], "kind": "ask"})
        await enqueue(store, session, [mail], now=NOW)
    return connection


async def test_no_name_is_left_and_the_numbers_stay(store: Store) -> None:
    await people(store)
    looked = await erase_customer(store, "Acme", by="anna", now=NOW, dry_run=True)
    async with store.read() as session:
        assert await session.scalar(select(col(Contact.email))) == "jo@acme.example"
    erased = await erase_customer(store, "Acme", by="anna", now=NOW)
    assert (looked.texts, looked.contacts, erased.contacts, erased.live) == (2, 1, 1, 1)
    assert erased.bodies == looked.bodies == 1
    async with store.read() as session:
        everything = []
        for table in ("customer", "contact", "connection", "audit", "outbox"):
            rows = await session.execute(text(f"SELECT * FROM {table}"))
            everything += [repr(tuple(row)) for row in rows]
        said = "\n".join(everything)
        for name in ("Jo Doe", "jo@acme", "it@acme", "Acme · SAP'", "Acme - SAP"):
            assert name not in said.replace("Acme Bolt · SAP", ""), name
        assert "Acme Bolt · SAP" in said
        assert (await session.scalars(select(Outbox))).one().status == "skipped"
        assert (await session.scalars(select(Record))).one().key == "1"
        assert (await session.scalars(select(WebhookEvent))).one().body is None
        actions = [row.action for row in await session.scalars(select(Audit))]
        assert "customer.erased" in actions
    with pytest.raises(NotFound):
        await erase_customer(store, "Acme", by="anna", now=NOW)


def test_words_that_are_read_back_and_other_names_stay() -> None:
    eraser = Eraser(["Open"], ["Open Systems"], "Erased")
    found = eraser.value({"status": "open", "text": "open Open, Open Systems; reopened"})
    assert found == {"status": "open", "text": "Erased Erased, Open Systems; reopened"}
