"""What several connections have at once: a product's logins, or one customer's systems.

As when a vendor ends passwords, or somebody pulls the plug of a customer's network.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from linekeeper.config import HealthPolicy
from tests.simulation.machine import seed_of

if TYPE_CHECKING:
    from tests.simulation.makini.connection import Connection
    from tests.simulation.plan import Plan
    from tests.simulation.universe import Universe

ONE_CUSTOMER = "customer"
ONE_CUSTOMER_FROM = 50_000
SHARE = 0.15
"""Of the universes from that one on, so many have it."""
SYSTEMS = 3
"""So many has the customer of whom that is told."""
STORM = 0.25
"""The share of the universes with the latest liberties that have one."""


async def storm(universe: "Universe", rng: Random) -> None:
    """The product with the most customers lets go of all their logins; some work again later.

    Such a thing is one incident here from two connections on.
    """
    policy = HealthPolicy(root_cause_members=2, root_cause_together=2)
    universe.prefect.blocks = replace(universe.prefect.blocks, policy=policy)
    await asyncio.sleep(rng.uniform(300.0, 1200.0))
    living = [each for each in universe.truth.living() if each.login_ok]
    if not living or not universe.faulty("storm"):
        return
    counts = Counter(each.provider for each in living)
    provider = max(counts, key=lambda name: (counts[name], name))
    hit = [each for each in living if each.provider == provider]
    universe.say(f"trouble: {len(hit)} customers of {provider} lose their logins")
    for connection in hit:
        if not connection.deleted:
            universe.truth.lose_login(connection, universe.now())
        await asyncio.sleep(rng.uniform(10.0, 240.0))
    for connection in hit:
        await asyncio.sleep(rng.uniform(100.0, 1500.0))
        if universe.calm:
            return
        if rng.random() < 0.5:
            _let_in_again(universe, connection)


async def one_customer(universe: "Universe", rng: Random) -> None:
    """The first customer's systems, each another product, go away together, or lose their logins.

    They come back one by one. While they are all known to be in trouble of one kind, that is one
    incident.
    """
    policy = HealthPolicy(root_cause_members=2, root_cause_together=2)
    universe.prefect.blocks = replace(universe.prefect.blocks, policy=policy)
    loses_logins = rng.random() < 0.4
    while not universe.calm:
        await asyncio.sleep(rng.uniform(300.0, 1200.0))
        theirs = [each for each in universe.truth.living() if each.company == company(0)]
        if not theirs or not universe.faulty(ONE_CUSTOMER):
            return
        what = "lose their logins" if loses_logins else "go away"
        universe.say(f"trouble: {len(theirs)} systems of {company(0)} {what}")
        for connection in theirs:
            _take_away(universe, connection, login=loses_logins)
            await asyncio.sleep(rng.uniform(0.0, 30.0))
        for _ in range(rng.randint(5, 12)):
            await asyncio.sleep(180.0)
            if universe.calm:
                return
            _have_one_incident(universe, theirs)
        rng.shuffle(theirs)
        for connection in theirs:
            if not universe.calm:
                _let_in_again(universe, connection)
            await asyncio.sleep(rng.uniform(30.0, 900.0))


def _have_one_incident(universe: "Universe", theirs: Sequence["Connection"]) -> None:
    """What is known of all of them at one moment, and is the same, is told as one, and as theirs:
    where others have the same products, those are well."""
    rows = [
        universe.ask(
            "SELECT m.kind, i.id, i.customer_id FROM incident_connection m"
            " JOIN incident i ON i.id = m.incident_id JOIN connection c ON c.id = m.connection_id"
            " WHERE i.topic = 'health' AND m.left_at IS NULL AND c.makini_key = ?", (each.key,),
        )
        for each in theirs
    ]  # fmt: skip
    if not all(rows) or len({kind for (kind, *_), *_ in rows}) > 1:
        return
    universe.acted.add(ONE_CUSTOMER)
    if universe.people.kinds != {ONE_CUSTOMER}:
        return  # others may be in trouble, too
    incidents = {incident: customer for (_, incident, customer), *_ in rows}
    if len(incidents) > 1:
        universe.found.append(f"customer: their systems have {len(incidents)} incidents")
    products = {each.provider for each in theirs}
    others = [each for each in universe.truth.living() if each.company != company(0)]
    if not all(incidents.values()) and products & {each.provider for each in others}:
        universe.found.append(f"customer: it is not told as the trouble of {company(0)}")


def _take_away(universe: "Universe", connection: "Connection", *, login: bool) -> None:
    if connection.deleted or universe.calm:
        return
    if login:
        universe.truth.lose_login(connection, universe.now())
    else:
        universe.truth.set_online(connection, False, universe.now())


def _let_in_again(universe: "Universe", connection: "Connection") -> None:
    if connection.deleted:
        return
    if not connection.login_ok:
        universe.say(f"{connection.key}: the old password works again")
        universe.truth.restore_login(connection, universe.now())
    if not connection.online:
        universe.say(f"{connection.key}: its system answers again")
        universe.truth.set_online(connection, True, universe.now())


def company(number: int) -> str:
    """What a customer is called."""
    return f"Company {number}"


def has_one_customer(plan: "Plan") -> bool:
    """Whether one customer has several systems."""
    if plan.kinds:
        return ONE_CUSTOMER in plan.kinds
    chance = Random(seed_of(plan.seed, "one customer")).random()
    return plan.seed >= ONE_CUSTOMER_FROM and chance < SHARE


def customer_of(plan: "Plan", number: int) -> int:
    """Whose the connection `number` is: each has one of its own, but where one has several."""
    return 0 if number < SYSTEMS and has_one_customer(plan) else number
