"""`linekeeper audit`, and the table in the Prefect UI."""

import json
from datetime import timedelta

from linekeeper.clock import utcnow
from linekeeper.store import Store
from linekeeper.store.tables import Audit, Connection, Customer, Incident
from linekeeper.views.audit import (
    MARKDOWN_ROWS,
    audit_headline,
    audit_markdown,
    issued_tokens,
    read_audit,
)
from tests.cli.commands import CommandLine

NOW = utcnow()


async def fill(store: Store) -> None:
    """Things done from Slack, a form, a key and the command line."""
    customer = Customer(name="Acme", slug="acme")
    connection = Connection(
        app="default", makini_key="k", customer_id=customer.id, name="ECC", slug="a", provider="SAP"
    )
    incident = Incident(
        kind="unreachable", scope="provider", cause="p", app="default", title="SAP is down"
    )
    async with store.write() as session:
        session.add_all([customer, incident])
        await session.flush()
        session.add(connection)
        done = [
            ("U07 (Slack)", "incident.acknowledged", incident.id, {}),
            ("Petra", "reconnect.answered", incident.id, {"note": "called | them", "by": None}),
            ("anna (command line)", "key.added", "product", {"scopes": ["a", "b", "c", "d"]}),
            *(("product (key)", "token.handed_out", connection.id, {}) for _ in range(5)),
        ]
        for minutes, (by, action, subject, detail) in enumerate(reversed(done)):
            at = NOW - timedelta(hours=1) + timedelta(minutes=minutes)
            session.add(Audit(at=at, by=by, action=action, subject=subject, detail=detail))
        session.add(Audit(at=NOW - timedelta(days=3), by="old", action="x", subject="y"))


async def test_the_audit_calls_a_customer_by_its_name(store: Store) -> None:
    async with store.write() as session:
        customer = Customer(name="Acme", slug="acme")
        session.add(customer)
        await session.flush()
        session.add(Audit(at=NOW, by="Petra", action="customer_link.made", subject=customer.id))
    assert [entry.subject for entry in await read_audit(store)] == ["Acme"]


async def test_the_audit_names_what_people_know_and_can_be_narrowed(store: Store) -> None:
    await fill(store)
    everything = await read_audit(store)
    assert [(entry.by, entry.subject) for entry in everything] == [
        ("U07 (Slack)", "SAP is down"),
        ("Petra", "SAP is down"),
        ("anna (command line)", "product"),
        ("old", "y"),
    ]
    assert len(await read_audit(store, tokens=True)) == 9
    assert [entry.by for entry in await read_audit(store, by="petra")] == ["Petra"]
    assert [entry.by for entry in await read_audit(store, action="KEY.")] == ["anna (command line)"]
    assert len(await read_audit(store, since=NOW - timedelta(days=1))) == 3
    assert len(await read_audit(store, limit=2)) == 2
    async with store.write() as session:
        session.add(Audit(at=NOW, by="Örjan", action="customer.changed", subject="x"))
    assert [entry.by for entry in await read_audit(store, by="Örjan")] == ["Örjan"]
    tokens = await read_audit(store, tokens=True, action="token")
    assert {entry.subject for entry in tokens} == {"Acme · SAP"}


async def test_the_table_counts_token_hand_outs_by_key_and_escapes_what_people_wrote(
    store: Store,
) -> None:
    await fill(store)
    entries = await read_audit(store)
    taken = await issued_tokens(store, since=NOW - timedelta(days=1))
    assert [(one.by, one.tokens, one.connections) for one in taken] == [("product (key)", 5, 1)]
    headline = await audit_headline(store, now=NOW)
    assert headline == "3 audit entries in 24 hours, by 3 people and keys"
    table = audit_markdown(headline, entries, taken, now=NOW)
    assert "called \\| them" in table
    assert "scopes a, b, c and 1 more" in table
    assert "| product \\(key\\) | 5 | 1 |" in table or "| product (key) | 5 | 1 |" in table
    assert "Nothing was done" in audit_markdown("", [], [], now=NOW)


async def test_the_headline_counts_all_that_was_done_not_what_fits_on_the_page(
    store: Store,
) -> None:
    async with store.write() as session:
        session.add_all(
            Audit(at=NOW - timedelta(minutes=n), by="import", action="x", subject="y")
            for n in range(MARKDOWN_ROWS + 50)
        )
    said = await audit_headline(store, now=NOW)
    assert said == "250 audit entries in 24 hours, by 1 person or key"


def test_the_command_shows_a_table_or_json(command: CommandLine) -> None:
    command.migrated()
    assert "there is no audit entry" in command("audit").out
    assert command("key", "add", "product").code == 0
    said = command("audit")
    assert (said.code, said.err) == (0, "")
    assert "key.added" in said.out
    assert "(command line)" in said.out
    [entry] = json.loads(command("audit", "--json", "--by", "command").out)
    assert entry["subject"] == "product"
    assert json.loads(command("audit", "--json", "--by", "nobody").out) == []


def test_the_command_says_that_there_is_more_than_it_shows(command: CommandLine) -> None:
    command.migrated()
    for name in ("one", "two", "three"):
        assert command("key", "add", name).code == 0
    assert command("audit", "--limit", "3").err == ""
    said = command("audit", "--limit", "2", "--json")
    assert [entry["subject"] for entry in json.loads(said.out)] == ["three", "two"]
    assert said.err == "Only the newest 2 entries are shown; --limit shows more.\n"
