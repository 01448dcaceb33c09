"""What a connection is charged as: said by form, file or provider; booked with a reason."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select
from sqlmodel import col

from linekeeper.config import AppConfig
from linekeeper.credits.service import check, ledger, ledger_apps, set_bought
from linekeeper.customers.adopt import adopt
from linekeeper.customers.change import BadChange, CustomerChange, change_customer
from linekeeper.customers.importing import import_customers
from linekeeper.customers.succession import succeed
from linekeeper.implementation.order import Form
from linekeeper.implementation.start import start
from linekeeper.makini import ListedConnection
from linekeeper.store import Store
from linekeeper.store.tables import Connection, CreditEntry

NOW = datetime(2027, 3, 1, 9, tzinfo=UTC)


async def take(store: Store, key: str, provider: str, *, app: str = "default") -> str:
    """Adopt a connection of Acme's; Makini's list says neither tier nor hosting."""
    listed = ListedConnection(
        key=key, name=f"Acme - {provider} {key}", provider=provider, status="Active"
    )
    async with store.write() as session:
        adoption = await adopt(store, session, app, [listed], now=NOW)
    return adoption.ids[key]


async def book(store: Store, connection_id: str) -> list[tuple[str, int, str]]:
    async with store.read() as session:
        rows = await session.scalars(
            select(CreditEntry)
            .where(col(CreditEntry.connection_id) == connection_id)
            .order_by(col(CreditEntry.id))
        )
        return [(row.reason, row.delta, row.note) for row in rows]


async def consumed(store: Store, app: str | None = None) -> int:
    return (await ledger(store, today=NOW.date(), app=app)).balance.consumed


@pytest.mark.parametrize("how", ["form", "file", "system"])
async def test_an_adopted_connection_is_corrected_and_the_ledger_books_the_difference(
    store: Store, how: str
) -> None:
    """H1: on-premises costs double."""
    one = await take(store, "1", "UpKeep")
    await check(store, now=NOW)
    assert await consumed(store) == 1
    if how == "file":
        file = b"name,hosting,tier\nACME,On premises,3\n"
        await import_customers(store, file, by="Olaf", now=NOW)
    else:
        system = "UpKeep" if how == "system" else ""
        change = CustomerChange(hosting="on-premises", tier="III", system=system)
        await change_customer(store, "Acme", change, by="Olaf", now=NOW)
    assert await book(store, one) == [
        ("consume", -1, "in Makini's list"),
        ("adjust", -7, "cloud I → on-premises III"),
    ]
    assert await consumed(store) == 8
    await take(store, "1", "UpKeep")  # the next list doesn't undo it
    assert await check(store, now=NOW) == ()
    assert len(await book(store, one)) == 2
    await take(store, "2", "UpKeep")
    await check(store, now=NOW)
    assert await consumed(store) == (9 if how == "system" else 16)


async def test_what_nobody_said_is_charged_by_the_provider(store: Store) -> None:
    by_faq = await take(store, "1", "SAP ECC")
    by_setting = await take(store, "2", "Infor EAM")
    await check(store, now=NOW)  # before anybody filled in the table
    assert await consumed(store) == 8 + 1
    table = AppConfig(tariffs={"infor eam": "II on-premises"}).tariffs
    await check(store, now=NOW, tariffs=table)
    assert await consumed(store) == 8 + 4
    assert (await book(store, by_setting))[-1] == ("adjust", -3, "it is charged as on-premises II")
    assert len(await book(store, by_faq)) == 1
    with pytest.raises(ValueError, match="IV is no tier"):
        AppConfig(tariffs={"x": "IV"})


async def test_a_corrected_table_of_providers_counts_and_says_nothing_of_what_others_said(
    store: Store,
) -> None:
    """16.22: what the table had said once was never corrected by it."""
    by_faq = await take(store, "1", "SAP ECC")
    by_setting = await take(store, "2", "Infor EAM")
    by_list = await take(store, "3", "Infor EAM")
    wrong = {"Infor EAM": "I cloud"}
    await check(store, now=NOW, tariffs=wrong)
    async with store.write() as session:  # Makini's list says it since
        (await session.get_one(Connection, by_list)).tier = "III"
    right = {"Infor EAM": "II cloud", "SAP ECC": "II on-premises"}
    await check(store, now=NOW, tariffs=right)
    assert await book(store, by_faq) == [
        ("consume", -8, "in Makini's list"),
        ("adjust", 4, "it is charged as on-premises II"),
    ]
    await check(store, now=NOW, tariffs=wrong)
    await check(store, now=NOW, tariffs=right)
    assert (await book(store, by_setting))[-1] == ("adjust", -1, "it is charged as cloud II")
    assert await consumed(store) == 4 + 2 + 4
    await check(store, now=NOW, tariffs={})  # it says nothing of it any more
    assert await consumed(store) == 8 + 1 + 4


@pytest.mark.parametrize(("said", "cost"), [("II", 4), ("cloud", 4), ("I cloud", 1), ("", 8)])
async def test_what_the_table_leaves_out_is_as_the_product_usually_is(
    store: Store, said: str, cost: int
) -> None:
    """H1: SAP ECC is on-premises, whatever tier it is said to have."""
    await take(store, "1", "SAP ECC")
    await check(store, now=NOW, tariffs={"SAP ECC": said} if said else {})
    assert await consumed(store) == cost


@pytest.mark.parametrize("is_checked", [False, True])
async def test_who_corrects_the_hosting_alone_says_nothing_of_the_tier(
    store: Store, is_checked: bool
) -> None:
    """It had counted as said by them: tier I before the first nightly check, and fixed after it."""
    corrected = await take(store, "1", "SAP ECC")
    if is_checked:
        await check(store, now=NOW)
        assert await consumed(store) == 8
    change = CustomerChange(hosting="cloud", system="SAP ECC")
    await change_customer(store, "Acme", change, by="Olaf", now=NOW)
    await check(store, now=NOW)
    assert await consumed(store) == 4
    await check(store, now=NOW, tariffs={"SAP ECC": "II on-premises"})
    assert await consumed(store) == 2  # the table's tier, and the hosting that Olaf said
    listed = ListedConnection(
        key="1",
        name="Acme - SAP ECC 1",
        provider="SAP ECC",
        status="Active",
        metadata={"tier": "1"},
    )
    async with store.write() as session:
        await adopt(store, session, "default", [listed], now=NOW)
    await check(store, now=NOW)
    assert await consumed(store) == 1
    tier = CustomerChange(tier="III", system="SAP ECC")
    await change_customer(store, "Acme", tier, by="Olaf", now=NOW)
    await take(store, "1", "SAP ECC")
    await check(store, now=NOW, tariffs={"SAP ECC": "II on-premises"})
    assert await consumed(store) == 4
    assert (await book(store, corrected))[-1] == ("adjust", -3, "cloud I → cloud III")


async def test_each_app_has_its_own_ledger(store: Store) -> None:
    await take(store, "1", "UpKeep")
    await take(store, "1", "UpKeep", app="plant")
    await set_bought(store, 5, by="Olaf", now=NOW)
    await set_bought(store, 20, by="Olaf", app="plant", now=NOW)
    for app in await ledger_apps(store):
        assert await check(store, now=NOW, app=app)
    standing = {app: await ledger(store, today=NOW.date(), app=app) for app in ("default", "plant")}
    assert {app: one.balance.available for app, one in standing.items()} == {
        "default": 4,
        "plant": 19,
    }
    form = Form(
        "Zeta",
        ["SAP ECC", "Maximo"],
        "enterprise",
        NOW.date(),
        "Olaf",
        owner="Petra",
        tiers=["III", "II"],
        app="plant",
    )
    await start(store, form, now=NOW)  # six: the account `default` has no room for them
    plant = (await ledger(store, today=NOW.date(), app="plant")).balance
    assert (plant.reserved, plant.available) == (6, 13)


async def test_a_replaced_connection_returns_its_credits_and_its_heir_is_charged_alike(
    store: Store,
) -> None:
    before = await take(store, "1", "UpKeep")
    await check(store, now=NOW)
    change = CustomerChange(hosting="on-premises", tier="III", system="UpKeep")
    await change_customer(store, "Acme", change, by="Olaf", now=NOW)
    after = await take(store, "2", "UpKeep")
    async with store.write() as session:
        await succeed(store, session, before, after, source="list", message="new login", now=NOW)
    await check(store, now=NOW + timedelta(hours=1))
    assert (await book(store, before))[-1][:2] == ("return", 8)
    assert [entry[:2] for entry in await book(store, after)] == [("consume", -8)]
    async with store.read() as session:
        heir = await session.get_one(Connection, after)
    assert (heir.hosting, heir.tier) == ("on-premises", "III")


async def test_a_form_that_cannot_be_is_refused(store: Store) -> None:
    await take(store, "1", "UpKeep")
    for change, said in (
        (CustomerChange(tier="IV"), "'IV' is not one of"),
        (CustomerChange(system="UpKeep"), "say hosting or tier"),
    ):
        with pytest.raises(BadChange, match=said):
            await change_customer(store, "Acme", change, by="Olaf", now=NOW)
