"""What comes right after something was over: the login is lost again at once, and the act after an
outage. From some universe on, in a known share of them, or where it is asked for.
"""

import asyncio
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING, Any

from tests.simulation.doubted import DOUBTED
from tests.simulation.episodes import Episode
from tests.simulation.net import Fault
from tests.simulation.renewed import MEANWHILE

if TYPE_CHECKING:
    from tests.simulation.makini.connection import Connection
    from tests.simulation.second_acts import SecondActs
    from tests.simulation.universe import Universe

LATER_ACTS_FROM = 40_000
RELAPSE, AFTERMATH = "relapse", "aftermath"
LATER_ACTS = (RELAPSE, AFTERMATH, MEANWHILE, DOUBTED)
LOST = "reauthorization_required"
AT_ONCE = (0.0, 0.3, 2.0, 15.0, 60.0, 200.0)
"""Seconds from when something is over to what comes next."""
OUTAGES = (240.0, 700.0, 1500.0)


async def relapses(universe: "Universe", acts: "SecondActs", rng: Random) -> None:
    """Whoever lost the login has it back, by the link or as the old password works again; at once
    it is lost once more, for half of them to the end of the trouble."""
    truth = universe.truth
    await asyncio.sleep(rng.uniform(120.0, 500.0) * universe.plan.pace)
    while not universe.calm:
        connection = acts.one()
        if connection is not None and universe.faulty(RELAPSE):
            universe.say(f"relapse: {connection.key} loses its login")
            truth.lose_login(connection, universe.now())
            key = connection.key
            if await acts.until(lambda key=key: universe.is_open(key, LOST), within=1500.0):
                await asyncio.sleep(rng.choice((1.0, 20.0, 120.0)))
                again = await _back(universe, connection, by_link=rng.random() < 0.6)
                await asyncio.sleep(rng.choice(AT_ONCE))
                if again is not None and again.login_ok and not (again.deleted or universe.calm):
                    universe.say(f"relapse: {again.key} loses its login again at once")
                    truth.lose_login(again, universe.now())
                    universe.acted.add(RELAPSE)
                    await asyncio.sleep(rng.uniform(60.0, 600.0))
                    if rng.random() < 0.5:
                        await _back(universe, again, by_link=True)
        await asyncio.sleep(rng.uniform(60.0, 900.0) * universe.plan.pace)


async def _back(
    universe: "Universe", connection: "Connection", *, by_link: bool
) -> "Connection | None":
    """The login of `connection` works again; the connection that it is by then."""
    if connection.deleted or universe.calm:
        return None
    if by_link:
        await universe.people.customers.log_in_to(connection)
    elif not connection.login_ok:
        universe.say(f"{connection.key}: the old password works again")
        universe.truth.restore_login(connection, universe.now())
    return universe.truth.connections.get(connection.successor or connection.key)


async def aftermaths(universe: "Universe", acts: "SecondActs", rng: Random) -> None:
    """A peer is away, a login is lost meanwhile; and the moment it is back, something happens."""
    await asyncio.sleep(rng.uniform(100.0, 400.0) * universe.plan.pace)
    while not universe.calm:
        if not universe.faulty(AFTERMATH):
            await asyncio.sleep(60.0)
            continue
        name = rng.choice(("product", "prefect", "slack", "mail", "makini"))
        seconds = rng.choice(OUTAGES)
        lost = acts.one() if rng.random() < 0.6 else None
        universe.say(f"aftermath: {name} is away for {seconds:g} s")
        universe.people.kinds.add(name)
        since = universe.now()
        _away(universe, name, seconds)
        await asyncio.sleep(rng.uniform(0.0, seconds))
        if lost is not None and not lost.deleted and lost.login_ok and not universe.calm:
            universe.say(f"aftermath: {lost.key} loses its login")
            universe.truth.lose_login(lost, universe.now())
        left = seconds - (universe.now() - since).total_seconds()
        await asyncio.sleep(max(0.0, left))
        _back_again(universe, name)
        if name == "prefect":
            universe.people.unusual.unwatched.append((since, universe.now()))
        universe.say(f"aftermath: {name} is back")
        await asyncio.sleep(rng.choice(AT_ONCE))
        if not universe.calm:
            await _act(universe, acts, lost, rng)
            universe.acted.add(AFTERMATH)
        await asyncio.sleep(rng.uniform(100.0, 1200.0) * universe.plan.pace)


async def _act(
    universe: "Universe", acts: "SecondActs", lost: "Connection | None", rng: Random
) -> None:
    """What happens right after the outage."""
    what = rng.choice(("back", "lost", "changed", "crash"))
    if what == "back" and lost is not None:
        await _back(universe, lost, by_link=rng.random() < 0.5)
        return
    if what == "crash":
        for host in [each for each in universe.hosts if not each.dead]:
            if host.name.startswith(("consumer", "worker")):
                universe.crash(host)
        return
    connection = acts.one()
    if connection is None:
        return
    if what == "lost":
        universe.say(f"aftermath: {connection.key} loses its login")
        universe.truth.lose_login(connection, universe.now())
    elif connection.offers:
        entity = rng.choice(connection.offers)
        universe.say(f"aftermath: record of {connection.key} {entity} updated")
        universe.truth.change(connection, entity, universe.now(), "updated")


def _away(universe: "Universe", name: str, seconds: float) -> None:
    if name != "makini":
        _peers(universe)[name].down = True
        return
    now, fault = universe.now(), Fault("status", 503)
    universe.people.episodes.begin(
        Episode(
            now + timedelta(seconds=seconds), lambda request: request.host == "makini.sim",
            fault, "Makini is away", now, "", everywhere=True,
        )
    )  # fmt: skip


def _back_again(universe: "Universe", name: str) -> None:
    if name != "makini":  # its episode ends by itself
        _peers(universe)[name].down = False


def _peers(universe: "Universe") -> dict[str, Any]:
    return {
        "product": universe.product, "prefect": universe.prefect,
        "slack": universe.slack, "mail": universe.mail,
    }  # fmt: skip
