"""The ledger in the database: checked against Makini's list, followed, refused, forecast."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select
from sqlmodel import col

from linekeeper.credits.decide import CreditError
from linekeeper.credits.report import credits_markdown
from linekeeper.credits.service import check, ledger, return_credits, set_bought
from linekeeper.implementation.order import Form
from linekeeper.implementation.scope import PlanError
from linekeeper.implementation.start import Started, start
from linekeeper.store import Store
from linekeeper.store.tables import Connection, CreditEntry, Customer, Implementation

NOW = datetime(2027, 3, 1, 9, tzinfo=UTC)


async def connect(store: Store, name: str, status: str = "Active", **changed: Any) -> str:
    """A connection in Makini's list."""
    async with store.write() as session:
        customer = await session.scalar(select(Customer).where(col(Customer.name) == "Acme"))
        if customer is None:
            customer = Customer(name="Acme", slug="acme")
            session.add(customer)
            await session.flush()
        taken = len(list(await session.scalars(select(col(Connection.id)))))
        connection = Connection(
            app="default",
            makini_key=f"key-{taken}",
            customer_id=customer.id,
            name=name,
            slug=f"acme-{taken}",
            provider="SAP ECC",
            list_status=status,
            created_at=NOW + timedelta(minutes=taken),
            **{"setup": "live", "tier": "II", "hosting": "on-premises"} | changed,
        )
        session.add(connection)
        await session.flush()
    return connection.id


async def begin(store: Store, customer: str, **changed: Any) -> Started:
    form = Form(
        **{
            "customer": customer,
            "systems": ["UpKeep"],
            "complexity": "standard",
            "kickoff": NOW.date(),
            "owner": "Petra",
            "by": "Olaf",
        }
        | changed
    )
    return await start(store, form, now=NOW)


async def test_the_nightly_check_names_leaks_and_the_ledger_follows_the_list(store: Store):
    first = await connect(store, "Plant 1")
    again = await connect(store, "Plant 1")
    idle = await connect(store, "Plant 2", "Inactive")
    await connect(store, "Plant 3", "Pending", setup="pending")
    leaks = {leak.kind: leak.subject for leak in await check(store, now=NOW)}
    assert leaks == {"not in ledger": first, "duplicate": again, "inactive": idle}
    # Makini charges for a connection whether it is the second of its kind or not.
    assert (await ledger(store, today=NOW.date())).balance.consumed == 8
    kinds = [leak.kind for leak in await check(store, now=NOW)]
    assert sorted(kinds) == ["duplicate", "inactive"]

    async with store.write() as session:
        gone = await session.get_one(Connection, first)
        gone.setup = "disconnected"
    leaks = {leak.kind: leak.subject for leak in await check(store, now=NOW)}
    assert leaks == {"not at Makini": first, "inactive": idle}
    assert (await ledger(store, today=NOW.date())).balance.consumed == 4


async def test_disconnecting_returns_what_the_connection_held_once(store: Store):
    one = await connect(store, "Plant 1")
    await check(store, now=NOW)
    given = []
    for _ in range(2):
        async with store.write() as session:
            given.append(
                await return_credits(store, session, one, app="default", by="Olaf", now=NOW)
            )
    assert given == [4, 0]


async def test_two_starts_at_once_do_not_spend_the_same_credits(store: Store):
    await set_bought(store, 1, by="Olaf", now=NOW)
    ended = await asyncio.gather(
        *(begin(store, f"Customer {n}") for n in range(4)), return_exceptions=True
    )
    refused = [one for one in ended if isinstance(one, PlanError)]
    assert len(refused) == 3
    assert {plan_error.field for plan_error in refused} == {"credits"}
    assert (await ledger(store, today=NOW.date())).balance.available == 0


async def test_the_same_start_many_times_at_once_is_one_implementation(store: Store):
    ended = await asyncio.gather(*(begin(store, " acme" if n % 2 else "Acme") for n in range(6)))
    assert sum(one.new for one in ended) == 1
    async with store.read() as session:
        assert len(list(await session.scalars(select(Implementation)))) == 1
        entries = list(await session.scalars(select(col(CreditEntry.delta))))
    assert entries == [-1]


async def test_the_need_falls_into_the_week_in_which_the_login_is_likely(store: Store):
    await set_bought(store, 5, by="Olaf", now=NOW)
    await begin(store, "Soon")
    await begin(
        store,
        "Later",
        complexity="enterprise",
        systems=["SAP ECC", "Maximo"],
        tiers=["II", "II"],
        kickoff=NOW.date() + timedelta(weeks=3),
    )
    own = await ledger(store, today=NOW.date())
    needs = {week.monday: week.need for week in own.weeks if week.need}
    assert needs == {date(2027, 3, 1): 1, date(2027, 3, 29): 4}
    assert own.weeks[-1].left == 0
    shown = credits_markdown(own, NOW)
    assert "| 5 | 5 | 0 | 0 |" in shown
    assert "| 2027-03-29 | 4 | 0 |" in shown


async def test_what_is_planned_for_next_year_is_not_nothing(store: Store):
    await set_bought(store, 5, by="Olaf", now=NOW)
    await begin(store, "Next year", kickoff=NOW.date() + timedelta(weeks=45), tiers=["III"])
    shown = credits_markdown(await ledger(store, today=NOW.date()), NOW)
    assert "Nothing is planned" not in shown
    assert "| 2028-01-10 | 4 | 1 |" in shown


async def test_a_system_connected_twice_takes_its_credits_twice(store: Store):
    """A start that does not fit is refused: what a duplicate takes is not there for it."""
    await set_bought(store, 8, by="Olaf", now=NOW)
    for _ in range(2):
        await connect(store, "Plant 1")
    assert "duplicate" in {leak.kind for leak in await check(store, now=NOW)}
    with pytest.raises(PlanError, match="0 available"):
        await begin(store, "Beta")


@pytest.mark.parametrize(
    ("bought", "by", "field"), [(-1, "Olaf", "bought"), (10**9, "Olaf", "bought"), (5, " ", "by")]
)
async def test_a_number_that_cannot_be_is_refused(store: Store, bought: int, by: str, field: str):
    with pytest.raises(CreditError) as refusal:
        await set_bought(store, bought, by=by, now=NOW)
    assert refusal.value.field == field
    assert not (await ledger(store, today=NOW.date())).known


async def test_a_connection_that_is_not_counted_yet_is_not_said_to_do_nothing(store: Store):
    """An implementation is started before the first nightly run: the page is written then."""
    await connect(store, "Plant 1")
    await connect(store, "Plant 2", "Inactive")
    page = credits_markdown(await ledger(store, today=NOW.date()), NOW)
    idle, _, rest = page.partition("## Credits that do nothing")[2].partition("\n## ")
    assert "Plant 2: Makini says Inactive" in idle
    assert "Plant 1" not in idle
    assert rest.startswith("Not in step with Makini's list yet")
    assert "To be taken: 4 credits of 1 connection that are connected." in rest
    await check(store, now=NOW)
    page = credits_markdown(await ledger(store, today=NOW.date()), NOW)
    assert "Plant 1" not in page
    assert "| not said | 0 | 4 | — |" in page
