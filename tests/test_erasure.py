"""A customer that is forgotten is named nowhere, and the numbers stay."""

from typing import Any

import pytest
from sqlalchemy import Table, delete, insert, text, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import SQLModel, col, select

from linekeeper.clock import utcnow
from linekeeper.customers.find import NotFound
from linekeeper.erasure import Eraser, erase_customer
from linekeeper.notify.channels import ARTIFACTS
from linekeeper.outbox.queue import enqueue
from linekeeper.reconnect.mails import mail
from linekeeper.store import Store, new_id
from linekeeper.store.modes import apply_rules
from linekeeper.store.tables import (
    AppSetting,
    Audit,
    Connection,
    Contact,
    Customer,
    CustomerLink,
    ModeRule,
    NoticeMessage,
    Outbox,
    Record,
    WebhookEvent,
)

NOW = utcnow()
SAID = "Acme · SAP was mailed to Jo Doe <jo@acme.example>"
NO_PROSE = {
    # Ids, keys and hashes, of ours, of Makini, of Prefect and of Slack.
    *("id", "key", "makini_key", "makini_id", "delivery_key", "merge_key", "dedupe_key", "run_id"),
    "work_run_id",
    *("message_id", "request_id", "reconnect.replaced_runs", "ts", "nonce", "digest", "hash"),
    *("natural_key", "plain_hash", "old_key", "new_key", "group_key", "connection_ref"),
    "group_kind",
    *("url_connection", "lane", "claimed_by", "keys_done", "call_pause.connection", "mark"),
    *("claim_owner", "lease.subject", "app_setting.subject"),
    *(
        "silence.subject",
        "outbox.subject",
        "mode_rule.mode",
        "connection.mode",
        "implementation.holds",  # times, and days by step
        "notice_message.subject",
        "incident.cause",
        "run_alert.cause",
        "drift.shard",
        "fold",
        "connect_url",
        "receiver",
    ),
    # Encrypted.
    *("access_token", "refresh_token", "app_setting.value", "app_setting.name"),
    # Words of ours, of Makini's API or of the standards; settings of an app.
    *("app", "topic", "kind", "scope", "status", "setup", "health", "axis", "before", "after"),
    *(
        "channel",
        "step",
        "step_kind",
        "severity",
        "state",
        "op",
        "source",
        "code",
        "outcome",
        "vantage",
        "rule",
    ),
    *("reason", "cause", "due", "entity", "event", "reported_kind", "custody", "list_status"),
    *("purpose", "forward_to", "destination", "slack_channel"),
    *("sync_status", "evidence", "provider", "hosting", "tier", "complexity", "commitment", "gate"),
    *(
        "check_name",
        "owner",
        "country",
        "time_zone",
        "locale",
        "action",
        "part",
        "place",
        "failure",
    ),
    *("waits_for", "blocks.status", "scopes", "listed_from", "budget", "circuit"),
    *("notice_message.stamp", "outbox.refusal", "watermark.broken_off"),
    # Machines, and times and counts by connection.
    *("host", "life", "worker", "lease.name", "reconnect.windows", "reconnect.counts"),
    "outage.detail",
}
"""Columns, everywhere or of one table, that can't hold a word of a person or about one."""
PROSE = {"gate.evidence", "transition.evidence", "implementation.owner", "customer.owner",
         "preflight_report.source", "silence.reason", "credit_entry.note",
         "implementation.digest", "implementation.key"}  # fmt: skip
"""Columns that do, though others of that name don't."""


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
                provider="SAP ECC",
                told_apart_by="Munich",
                email="it@acme.example",
                health_since=NOW,
                created_at=NOW,
            )
        )
        await session.flush()
        said = {"what": "Acme · SAP was mailed to Jo Doe <jo@acme.example>", "n": 3}
        session.add(Audit(at=NOW, by="anna", action="x", subject="Acme · SAP", detail=said))
        called = "Acme · SAP ECC (Munich)"
        session.add(Audit(at=NOW, by="anna", action="z", subject=called, detail={}))
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
                ordering_key="l",
                received_at=NOW,
                next_attempt_at=NOW,
                body=b'{"who": "Acme"}',
            )
        )
        # The second is of the other customer, whose system is called as this one is.
        for page in ("connection-acme-sap", "implementation-bolt-acme", "connection-acme-bolt-sap"):
            session.add(
                NoticeMessage(subject=page, channel=ARTIFACTS, ts="t", place="p", updated_at=NOW)
            )
        await enqueue(store, session, [mail("incident", 1, acme, "ask")], now=NOW)
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
        for name in ("Jo Doe", "jo@acme", "it@acme", "Acme · SAP'", "Acme - SAP", "Munich"):
            assert name not in said.replace("Acme Bolt · SAP", ""), name
        assert "Acme Bolt · SAP" in said
        assert (await session.scalars(select(Outbox))).one().status == "skipped"
        assert (await session.scalars(select(Record))).one().key == "1"
        assert (await session.scalars(select(WebhookEvent))).one().body is None
        pages = [row.subject for row in await session.scalars(select(NoticeMessage))]
        assert sorted(pages) == ["connection-acme-bolt-sap", "implementation-bolt-acme"]
        actions = [row.action for row in await session.scalars(select(Audit))]
        assert "customer.erased" in actions
    with pytest.raises(NotFound):
        await erase_customer(store, "Acme", by="anna", now=NOW)


@pytest.mark.parametrize("name", ["GE", "3M"])
async def test_a_name_of_two_letters_goes_as_well_and_no_word_with_it(
    store: Store, name: str
) -> None:
    customer = Customer(name=name, slug=name.lower(), created_at=NOW)
    async with store.write() as session:
        session.add(customer)
        await session.flush()
        session.add(Contact(customer_id=customer.id, name="Jo", email="jo@ge.example"))
        said = f"{name} · SAP: Jo was mailed, in ge as in 3m, joined by GEA and 3Makers"
        session.add(Audit(at=NOW, by="anna", action="x", subject=said))
    erased = await erase_customer(store, name, by="anna", now=NOW)
    async with store.read() as session:
        subject = await session.scalar(select(Audit.subject).where(col(Audit.action) == "x"))
    assert subject == (
        f"{erased.label} · SAP: {erased.label} was mailed, in ge as in 3m, joined by GEA and "
        "3Makers"
    )


async def test_what_a_rule_for_a_tag_decided_still_holds(store: Store) -> None:
    """Makini's list brings the tag back, which named the customer."""
    connection = await people(store)
    async with store.write() as session:
        await session.execute(update(Connection).values(tags=["acme"]))
        session.add(ModeRule(scope="tag", subject="acme", mode="observe", label="tag acme", by="a"))
        await session.flush()
        await apply_rules(session)
    await erase_customer(store, "Acme", by="anna", now=NOW)
    async with store.write() as session:
        await session.execute(update(Connection).values(tags=["acme"]))
        await apply_rules(session)
        row = await session.get_one(Connection, connection)
        assert row.mode == "observe"
        rules = {rule.scope: rule for rule in await session.scalars(select(ModeRule))}
        assert (rules["connection"].subject, rules["connection"].by) == (connection, "anna")
        assert "acme" not in rules["tag"].subject.casefold()


async def test_webhooks_that_only_name_its_connection_go_and_none_is_applied_afterwards(
    store: Store,
) -> None:
    connection = await people(store)

    def event(key: str, status: str, **whose: str) -> WebhookEvent:
        return WebhookEvent(
            id=new_id(),
            app="default",
            delivery_key=key,
            merge_key=key if status == "pending" else None,
            status=status,
            kind="record.updated",
            ordering_key=key,
            received_at=NOW,
            next_attempt_at=NOW,
            processed_at=None if status == "pending" else NOW,
            body=b'{"who": "Acme"}',
            headers=b"x-who: Acme",
            **whose,
        )

    async with store.write() as session:
        await session.execute(delete(WebhookEvent))
        session.add_all(
            [
                event("waits", "pending", connection_ref="c1"),
                event("waits, by its address", "pending", url_connection=connection),
                event("failed", "dead", connection_ref="c1"),
                event("of nobody", "unrouted", url_connection="c1"),
                event("of another", "pending", connection_ref="c2", url_connection="c3"),
            ]
        )
    await erase_customer(store, "Acme", by="anna", now=NOW)
    async with store.read() as session:
        rows = {row.delivery_key: row for row in await session.scalars(select(WebhookEvent))}
    kept = rows.pop("of another")
    assert (kept.status, kept.body) == ("pending", b'{"who": "Acme"}')
    assert {row.body or row.headers or row.merge_key for row in rows.values()} == {None}
    assert {key: row.status for key, row in rows.items()} == {
        "waits": "stale",
        "waits, by its address": "stale",
        "failed": "dead",
        "of nobody": "unrouted",
    }


async def test_the_link_to_its_page_works_no_longer(store: Store) -> None:
    await people(store)
    async with store.write() as session:
        for customer in await session.scalars(select(Customer)):
            session.add(CustomerLink(customer_id=customer.id, created_by="anna", created_at=NOW))
    await erase_customer(store, "Acme", by="anna", now=NOW)
    async with store.read() as session:
        of = select(Customer.name).join(CustomerLink, col(CustomerLink.customer_id) == Customer.id)
        assert list(await session.scalars(of)) == ["Acme Bolt"]


async def test_what_was_listed_for_a_login_goes_as_well(store: Store) -> None:
    """It names every connection, encrypted, and a login leaves it until the next one."""
    await people(store)
    listed = {"name": "listing:default", "kind": "listing", "subject": "default"}
    async with store.write() as session:
        for row in (listed, {"name": "listing:of-before"}):
            session.add(AppSetting(**row, value=store.cipher.encrypt(SAID), updated_at=NOW))
    await erase_customer(store, "Acme", by="anna", now=NOW)
    async with store.read() as session:
        kept = await session.scalars(select(col(AppSetting.value)))
        assert [value for value in kept if SAID in store.cipher.decrypt(value)] == []


async def test_no_column_of_any_table_holds_a_name_afterwards(store: Store) -> None:
    """Every text column there is says who it was; afterwards none does."""
    await people(store)
    async with store.write() as session:
        await session.execute(delete(WebhookEvent))
        for table in SQLModel.metadata.sorted_tables:
            if table.name not in ("customer", "contact", "connection", "record"):
                await session.execute(insert(table), await filled(session, table))
        await session.execute(update(Record).values(body=SAID, number="Jo Doe"))
        await session.execute(
            update(Connection).values(
                judged={"said": SAID}, tariff_by="Jo Doe", tier_by="Jo Doe", tags=["Acme"]
            )
        )
        await session.execute(
            update(Customer)
            .where(col(Customer.name) == "Acme")
            .values(owner="Jo Doe", aliases=["Acme Inc"])
        )
    assert len(await said_of(store)) > 60
    await erase_customer(store, "Acme", by="anna", now=NOW)
    assert await said_of(store) == []


async def filled(session: AsyncSession, table: Table) -> dict[str, Any]:
    """A row of `table` in which every column that may say who somebody is does."""
    row: dict[str, Any] = {}
    for column in table.columns:
        key, name, of = column.key, column.name, f"{table.name}.{column.name}"
        kind = type(column.type).__name__
        if column.foreign_keys:
            [target] = column.foreign_keys
            row[key] = await session.scalar(select(target.column).limit(1))
        elif kind in ("UtcDateTime", "Id", "Uuid", "Date"):
            made = {"UtcDateTime": NOW, "Date": NOW.date()}
            row[key] = made.get(kind, new_id())
        elif kind in ("Integer", "BigInteger", "Float", "Boolean"):
            row[key] = 1
        elif {name, of} & NO_PROSE and of not in PROSE:
            row[key] = {} if kind.upper() == "JSON" else b"" if kind == "LargeBinary" else "x"
        elif kind.upper() == "JSON":
            row[key] = {"said": SAID, "all": [SAID]}
        else:
            row[key] = SAID.encode() if kind == "LargeBinary" else SAID
    return row


async def said_of(store: Store) -> list[str]:
    """The columns in which the customer, or one of its people, is named."""
    found = []
    async with store.read() as session:
        for table in SQLModel.metadata.sorted_tables:
            for row in (await session.execute(text(f"SELECT * FROM {table.name}"))).mappings():
                for name, value in row.items():
                    said = bytes(value).decode() if isinstance(value, bytes) else str(value)
                    said = said.replace("Acme Bolt", "")
                    if any(who in said for who in ("Jo Doe", "jo@acme", "Acme")):
                        found.append(f"{table.name}.{name}")
    return found


def test_words_that_are_read_back_and_other_names_stay() -> None:
    eraser = Eraser(["Open"], ["Open Systems"], "Erased")
    found = eraser.value({"status": "open", "text": "open Open, Open Systems; reopened"})
    assert found == {"status": "open", "text": "Erased Erased, Open Systems; reopened"}
