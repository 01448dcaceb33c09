"""How a universe begins: customers with systems, listed and adopted, their logins taken over."""

from random import Random
from typing import TYPE_CHECKING

from sqlalchemy import select, update
from sqlmodel import col

from linekeeper import clock
from linekeeper.customers.adopt import adopt as take
from linekeeper.makini.models import ListedConnection, TokenPair
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Connection, Contact, Customer
from linekeeper.tokens.stored import save_tokens
from tests.simulation.loop import Host
from tests.simulation.machine import seed_of
from tests.simulation.storms import company, customer_of

if TYPE_CHECKING:
    from tests.simulation.universe import Universe

PROVIDERS = ("sap-ecc", "maximo", "emaint", "upkeep")
ZONES = (
    "UTC", "Europe/Berlin", "America/Los_Angeles", "America/Sao_Paulo", "Asia/Tokyo",
    "Australia/Sydney",
)  # fmt: skip
"""Where customers are."""


def metadata_of(universe: "Universe", number: int) -> dict[str, str] | None:
    """What the app tells Makini of a customer, where it does."""
    if not universe.personality.metadata_as:
        return None
    return {"customer": company(number), "account": f"acc-{number:04}"}


async def set_up(universe: "Universe") -> None:
    """Make the connections of the plan, and take them over."""
    now, truth, rng = universe.now(), universe.truth, universe.rng
    zones = Random(seed_of(universe.plan.seed, "time zones"))
    for number in range(universe.plan.connections):
        offers = universe.entities if rng.random() < 0.8 else universe.entities[:1]
        provider, whose = rng.choice(PROVIDERS), customer_of(universe.plan, number)
        if whose != number:
            provider = PROVIDERS[number]
        truth.connect(
            name=company(whose), email=f"it@company{whose}.example", provider=provider,
            company=company(whose), now=now, offers=offers,
            records=rng.choice((0, 1, 4, 12)), metadata=metadata_of(universe, whose),
        )  # fmt: skip
    truth.announce.clear()

    async def adopt(_: Host) -> None:
        async with Runtime.open() as rt, rt.store.write() as session:
            listed = [
                ListedConnection(key=each.key, id=each.key, name=each.name, email=each.email,
                                 provider=each.provider, status="Active")
                for each in truth.living()
            ]  # fmt: skip
            adopted = await take(rt.store, session, "default", listed, now=clock.utcnow())
            pairs = {}
            for each in truth.living():
                pair = truth.issue(each, universe.now(), source="login")
                pairs[adopted.ids[each.key]] = TokenPair(
                    pair.access, pair.refresh, pair.access_until
                )
            await save_tokens(rt.store, session, pairs, now=clock.utcnow())
            await session.execute(update(Contact).values(confirmed=True))
            for each in truth.living():
                zone = universe.zones[each.email] = zones.choice(ZONES)
                theirs = select(col(Connection.customer_id)).where(
                    col(Connection.makini_key) == each.key
                )
                await session.execute(
                    update(Customer).where(col(Customer.id).in_(theirs)).values(time_zone=zone)
                )

    _, task = universe.start("setup", adopt)
    await task
