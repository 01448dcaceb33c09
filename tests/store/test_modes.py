"""What rules come to for a connection, and the columns that everybody reads."""

from itertools import permutations

import pytest
from sqlmodel import col, select

from linekeeper.clock import utcnow
from linekeeper.customers.adopt import adopt
from linekeeper.customers.change import merge_customer
from linekeeper.customers.succession import succeed
from linekeeper.makini import ListedConnection
from linekeeper.makini.models import parse_connection
from linekeeper.store import Store, new_id
from linekeeper.store.modes import Chosen, ModeSubject, Rule, apply_rules, decide
from linekeeper.store.tables import Connection, Customer, ModeRule

ACME = ModeSubject("default", ("pilot", "eu"), "acme", "c1")
RULES = {
    "app": Rule("app", "default", mode="manage", notify_customers=True),
    "tag": Rule("tag", "pilot", mode="observe"),
    "cautious": Rule("tag", "eu", mode="manage", notify_customers=False),
    "customer": Rule("customer", "acme", mode="manage"),
    "connection": Rule("connection", "c1", mode="observe", notify_customers=True),
    "other": Rule("connection", "c2", mode="manage", notify_customers=False),
}


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        ([], Chosen(None, None)),
        (["other"], Chosen(None, None)),
        (["app"], Chosen("manage", True)),
        (["app", "tag"], Chosen("observe", True)),
        (["app", "tag", "cautious"], Chosen("observe", False)),
        (["cautious", "customer", "tag"], Chosen("manage", False)),
        (["app", "tag", "customer", "connection", "other"], Chosen("observe", True)),
    ],
)
def test_the_most_specific_rule_counts_whatever_their_order(
    names: list[str], wanted: Chosen
) -> None:
    for some in permutations(names):
        assert decide([RULES[name] for name in some], ACME) == wanted


async def listed(store: Store, *entries: ListedConnection) -> None:
    async with store.write() as session:
        await adopt(store, session, "default", entries, now=utcnow())


def entry(key: str, customer: str, *tags: str) -> ListedConnection:
    return ListedConnection(
        key=key, id=key, name=f"{customer} - UpKeep", status="Active", provider="UpKeep", tags=tags
    )


async def modes(store: Store) -> dict[str, tuple[str | None, bool | None]]:
    async with store.read() as session:
        rows = await session.scalars(select(Connection))
        return {row.makini_key: (row.mode, row.notify_customers) for row in rows}


async def rule(
    store: Store, scope: str, subject: str, mode: str | None, notify: bool | None
) -> str:
    async with store.write() as session:
        row = ModeRule(
            id=new_id(),
            scope=scope,
            subject=subject,
            label=subject,
            mode=mode,
            notify_customers=notify,
            by="tests",
            at=utcnow(),
        )
        session.add(row)
        await session.flush()
        await apply_rules(session)
    return row.id


async def test_what_comes_later_is_as_the_rules_say(store: Store) -> None:
    await listed(store, entry("a", "Acme", "pilot"), entry("b", "Bolt"))
    first = await rule(store, "tag", "pilot", "manage", None)
    assert await modes(store) == {"a": ("manage", None), "b": (None, None)}
    await listed(store, entry("a", "Acme"), entry("b", "Bolt", "pilot"), entry("c", "Cox", "pilot"))
    managed = ("manage", None)
    assert await modes(store) == {"a": (None, None), "b": managed, "c": managed}
    async with store.write() as session:
        await session.delete(await session.get_one(ModeRule, first))
        await session.flush()
        await apply_rules(session)
    assert set((await modes(store)).values()) == {(None, None)}


async def test_a_successor_inherits_the_rule_of_its_connection(store: Store) -> None:
    await listed(store, entry("old", "Acme"), entry("new", "Acme"))
    async with store.read() as session:
        ids = {row.makini_key: row.id for row in await session.scalars(select(Connection))}
    await rule(store, "connection", ids["old"], "observe", False)
    async with store.write() as session:
        await succeed(
            store, session, ids["old"], ids["new"], source="tests", message="", now=utcnow()
        )
    assert await modes(store) == {"old": (None, None), "new": ("observe", False)}
    async with store.read() as session:
        [kept] = await session.scalars(select(ModeRule))
    assert kept.subject == ids["new"]


async def test_a_successor_keeps_the_rule_of_its_predecessors_tag_until_makini_takes_the_tag(
    store: Store,
) -> None:
    await listed(store, entry("old", "Acme", "pilot"), entry("new", "Acme", "eu"))
    async with store.read() as session:
        ids = {row.makini_key: row.id for row in await session.scalars(select(Connection))}
    await rule(store, "tag", "pilot", "observe", None)
    async with store.write() as session:
        await succeed(
            store, session, ids["old"], ids["new"], source="tests", message="", now=utcnow()
        )
    for _ in range(2):  # Makini's list knows nothing of what it inherited
        await listed(store, entry("new", "Acme", "eu"))
        assert (await modes(store))["new"] == ("observe", None)
    await listed(store, entry("new", "Acme", "eu", "pilot"))
    await listed(store, entry("new", "Acme", "eu"))
    assert (await modes(store))["new"] == (None, None)


async def test_a_list_that_says_nothing_of_tags_changes_no_mode(store: Store) -> None:
    await listed(store, entry("a", "Acme", "pilot"))
    await rule(store, "tag", "pilot", "observe", None)
    page = {"key": "a", "name": "Acme - UpKeep", "integration_name": "UpKeep"}
    for unsaid in (page, {**page, "tags": None}):
        connection = parse_connection(unsaid)
        assert connection is not None
        await listed(store, connection)
        assert await modes(store) == {"a": ("observe", None)}
    connection = parse_connection({**page, "tags": []})
    assert connection is not None
    await listed(store, connection)
    assert await modes(store) == {"a": (None, None)}


async def test_a_customer_that_is_merged_leaves_its_rule_to_the_heir(store: Store) -> None:
    await listed(store, entry("a", "Acme"), entry("b", "Bolt"))
    async with store.read() as session:
        owners = {row.name: row.id for row in await session.scalars(select(Customer))}
    await rule(store, "customer", owners["Acme"], "observe", None)
    async with store.write() as session:
        acme = await session.get_one(Customer, owners["Acme"])
        await merge_customer(session, acme, await session.get_one(Customer, owners["Bolt"]))
    assert set((await modes(store)).values()) == {("observe", None)}
    async with store.read() as session:
        [kept] = await session.scalars(select(col(ModeRule.subject)))
    assert kept == owners["Bolt"]


@pytest.mark.parametrize("scopes", [("Acme", "Bolt"), ("Bolt", "Acme")])
async def test_of_two_customers_that_are_merged_the_cautious_rule_counts(
    store: Store, scopes: tuple[str, str]
) -> None:
    await listed(store, entry("a", "Acme"), entry("b", "Bolt"))
    async with store.read() as session:
        owners = {row.name: row.id for row in await session.scalars(select(Customer))}
    await rule(store, "customer", owners[scopes[0]], "observe", True)
    await rule(store, "customer", owners[scopes[1]], "manage", False)
    async with store.write() as session:
        acme = await session.get_one(Customer, owners["Acme"])
        await merge_customer(session, acme, await session.get_one(Customer, owners["Bolt"]))
    assert set((await modes(store)).values()) == {("observe", False)}
    async with store.read() as session:
        [kept] = await session.scalars(select(ModeRule))
    assert kept.subject == owners["Bolt"]
