"""What fixes of ours need to matter, and chance brings together in one universe of hundreds.

From some universe on, in a known share of them, or where it is asked for.
"""

import asyncio
from datetime import datetime, timedelta
from random import Random
from typing import TYPE_CHECKING
from uuid import UUID

from tests.simulation.broken_listings import BREAKS, breaks_off
from tests.simulation.episodes import Episode
from tests.simulation.flow_runs import SimRun
from tests.simulation.heard import STATUS
from tests.simulation.locked import LOCKED, locks
from tests.simulation.loop import HOST, Host
from tests.simulation.net import Fault, Request
from tests.simulation.plan import QUIET_FROM
from tests.simulation.rare import DAY

if TYPE_CHECKING:
    from tests.simulation.makini.connection import Connection
    from tests.simulation.second_acts import SecondActs
    from tests.simulation.universe import Universe

ARRANGED_FROM = 50_000
NEWEST_FROM = 60_000
LATEST_FROM = 80_000
INSISTED, PAUSED, QUEUED = "insisted", "paused", "queued"
RELISTED, OVERTAKEN, STOPPED = "relisted", "overtaken", "stopped"
REOPENED, RELOST = "reopened", "relost"
ARRANGED = (INSISTED, PAUSED, QUEUED, RELISTED, OVERTAKEN, STOPPED, REOPENED)
NEWEST = (RELOST, LOCKED)
LATEST = (BREAKS,)
COMES_WITH = {
    PAUSED: {"day"}, QUEUED: {"thrift", "logins"}, RELISTED: {"day"},
    OVERTAKEN: {"day", "logins", "second"}, REOPENED: {"quiet"},
    LOCKED: {"statements"},
}  # fmt: skip
"""Kinds whose work they use."""
LOST = "reauthorization_required"
KEPT = "SELECT 1 FROM pending_login"
ENDS_SOON = 20.0
"""Seconds in which a process ends that nothing keeps: three calls that hang take 46."""


async def insists(universe: "Universe", acts: "SecondActs", rng: Random) -> None:
    """An entity is refused; a person starts `reconcile` again and again meanwhile, and what changes
    there no webhook tells."""
    await asyncio.sleep(rng.uniform(200.0, 500.0) * universe.plan.pace)
    connection = acts.one()
    if connection is None or not connection.offers or not universe.faulty(INSISTED):
        return
    entity = rng.choice(connection.offers)
    universe.say(f"insisted: {connection.key} {entity} is refused")
    _refuse(universe, connection, f"/api/{entity}", Fault("status", rng.choice((403, 500))), 1500.0)
    universe.sending.silent_about.add(connection.key)
    universe.truth.change(connection, entity, universe.now(), "inserted")
    for _ in range(rng.choice((3, 4))):
        await asyncio.sleep(rng.uniform(30.0, 250.0))
        if universe.calm or universe.prefect.down:
            break
        universe.say("insisted: reconcile by hand")
        _by_hand(universe, "reconcile")
        universe.acted.add(INSISTED)
    await acts.until(lambda: universe.calm, within=1e6)
    universe.sending.silent_about.discard(connection.key)


async def pauses(universe: "Universe", acts: "SecondActs", rng: Random) -> None:
    """Shortly before it is calm Makini asks for a pause of half a minute, and the clock is set back
    by a day; then records of other connections are read, and nothing else for long."""
    plan = universe.plan
    await asyncio.sleep(3600.0 * (plan.hours + plan.lull) - rng.uniform(60.0, 200.0))
    connection = acts.one()
    if connection is None or not connection.offers or not universe.faulty(PAUSED):
        return
    universe.say(f"paused: {connection.key} is to be left alone for half a minute")
    _refuse(universe, connection, "/api/", Fault("status", 429, retry_after="30"), 20.0)
    _change(universe, connection, rng)
    asked = "SELECT 1 FROM call_pause WHERE connection = ?"
    key = connection.key
    if not await acts.until(lambda: bool(universe.ask(asked, (key,))), within=20.0, every=0.5):
        return
    stepping = asyncio.create_task(universe.people.rare.step_clock(-DAY, why="a pause lasts"))
    for other in [each for each in universe.truth.living() if each is not connection]:
        await asyncio.sleep(rng.uniform(1.0, 6.0))
        if other.offers and other.login_ok and not universe.calm:
            _change(universe, other, rng)
            universe.acted.add(PAUSED)
    await stepping


async def queues(universe: "Universe", acts: "SecondActs", rng: Random) -> None:
    """A lost login works again while its probe waits for its turn among few calls, and Makini says
    so meanwhile. Then a person has the link mailed once more."""
    await asyncio.sleep(rng.uniform(60.0, 200.0) * universe.plan.pace)
    connection = acts.one()
    if connection is None or not universe.faulty(QUEUED):
        return
    key, truth, face = connection.key, universe.truth, universe.face
    universe.say(f"queued: {key} loses its login")
    truth.lose_login(connection, universe.now())
    if not await acts.until(lambda: universe.is_open(key, LOST), within=1500.0):
        return
    listed = len(face.lists)
    if not await acts.until(lambda: len(face.lists) > listed, within=1500.0, every=0.5):
        return
    if connection.login_ok or connection.deleted:
        return
    universe.say(f"queued: a sweep has begun, and the login of {key} works again")
    since = universe.now()
    truth.restore_login(connection, since)
    if not await acts.until(lambda: face.probed.get(key, since) > since, within=300.0):
        return
    await asyncio.sleep(rng.uniform(130.0, 160.0))
    opened = universe.ask(
        "SELECT m.incident_id FROM incident_connection m JOIN incident i ON i.id = m.incident_id"
        " JOIN connection c ON c.id = m.connection_id WHERE c.makini_key = ? AND m.kind = ?"
        " ORDER BY i.opened_at DESC", (key, LOST),
    )  # fmt: skip
    if opened and not universe.calm:
        is_taken = await universe.people.operators.send_again(opened[0][0])
        universe.say(f"queued: the link is to be mailed again: {is_taken}")
        universe.acted.add(QUEUED)


async def relists(universe: "Universe", acts: "SecondActs", rng: Random) -> None:
    """The list lacks a connection from the beginning, and has it again in a sweep by a clock that
    is a day ahead. No webhook speaks of it meanwhile."""
    connection = acts.one()
    if connection is None or not universe.faulty(RELISTED):
        return
    key, people = connection.key, universe.people
    universe.say(f"relisted: the list lacks {key}")
    people.at_makini.cut_list = lambda listed: [each for each in listed if each["key"] != key]
    universe.sending.silent_about.add(key)
    lacked = "SELECT 1 FROM connection WHERE makini_key = ? AND unlisted_since IS NOT NULL"
    if await acts.until(lambda: bool(universe.ask(lacked, (key,))), within=1500.0):
        await asyncio.sleep(rng.uniform(100.0, 300.0))
        people.at_makini.cut_list = None
        why = f"the list has {key} again"
        stepping = asyncio.create_task(people.rare.step_clock(DAY, why=why))
        _by_hand(universe, "health-sweep")
        if await acts.until(lambda: not universe.ask(lacked, (key,)), within=40.0, every=1.0):
            universe.acted.add(RELISTED)
        await stepping
    await acts.until(lambda: universe.calm, within=1e6)
    universe.sending.silent_about.discard(key)


async def overtakes(universe: "Universe", acts: "SecondActs", rng: Random) -> None:
    """Logins are lost at once, and the messages about them wait for their turn in Slack, one a
    second. Meanwhile the clock steps a day ahead, by which whoever sends them held them too long,
    and another consumer takes them over."""
    await asyncio.sleep(rng.uniform(200.0, 500.0) * universe.plan.pace)
    well = [each for each in universe.truth.living() if each.login_ok and each.online]
    if not universe.faulty(OVERTAKEN):
        return
    for connection in well[:4]:
        universe.say(f"overtaken: {connection.key} loses its login")
        universe.truth.lose_login(connection, universe.now())
    _by_hand(universe, "health-sweep")
    held = (
        "SELECT count(*) FROM outbox WHERE channel = 'slack' AND status = 'pending'"
        " AND claimed_by IS NOT NULL"
    )
    if await acts.until(lambda: universe.ask(held, ())[0][0] > 1, within=90.0, every=0.25):
        universe.acted.add(OVERTAKEN)
        await universe.people.rare.step_clock(DAY, why="messages wait for their turn")


async def stops(universe: "Universe", acts: "SecondActs", rng: Random) -> None:
    """A login is kept, as Makini says nothing of it. When it is asked about again Makini hangs, and
    the process that asks is told to stop: it doesn't wait for that."""
    await asyncio.sleep(rng.uniform(60.0, 300.0) * universe.plan.pace)
    connection = acts.one()
    if connection is None or not universe.faulty(STOPPED):
        return
    universe.say(f"stopped: {connection.key} loses its login")
    universe.truth.lose_login(connection, universe.now())
    if not await acts.until(lambda: universe.is_open(connection.key, LOST), within=1500.0):
        return
    await asyncio.sleep(20.0)
    episode = _refuse(universe, connection, STATUS, Fault("status", 503), 600.0)
    await universe.people.customers.log_in_to(connection)
    if not await acts.until(lambda: bool(universe.ask(KEPT, ())), within=30.0, every=1.0):
        episode.until = universe.now()
        return
    newest = universe.truth.connections[connection.successor or connection.key]
    pair, asking = newest.pairs[-1], list[Host]()

    def is_asked(request: Request) -> bool:
        is_theirs = request.headers.get("authorization") == f"Bearer {pair.access}"
        if is_theirs and (host := HOST.get()) is not None:
            asking.append(host)
        return is_theirs

    episode.fault, episode.matches = Fault("hang"), is_asked
    if await acts.until(lambda: bool(asking), within=300.0, every=1.0):
        host, asked_at = asking[-1], universe.now()
        universe.acted.add(STOPPED)
        universe.stop(host.name)
        await asyncio.sleep(ENDS_SOON)
        is_alone = universe.people.kinds == {STOPPED}  # else it may wait for a pair
        if is_alone and not host.dead:
            universe.found.append(
                f"stop: {host.name} was told to at {asked_at:%H:%M:%S}, and waits for an answer "
                "about a login that is kept"
            )
    episode.until = universe.now()


async def loses_again(universe: "Universe", acts: "SecondActs", rng: Random) -> None:
    """A login is kept, as Makini says nothing of it, and lost again. A read is refused; then Makini
    is asked about the kept login again, and its status doesn't know yet."""
    await asyncio.sleep(rng.uniform(60.0, 300.0) * universe.plan.pace)
    connection = acts.one()
    if connection is None or not universe.faulty(RELOST):
        return
    universe.say(f"relost: {connection.key} loses its login")
    universe.truth.lose_login(connection, universe.now())
    if not await acts.until(lambda: universe.is_open(connection.key, LOST), within=1500.0):
        return
    await asyncio.sleep(20.0)
    episode = _refuse(universe, connection, STATUS, Fault("status", 503), 900.0)
    await universe.people.customers.log_in_to(connection)
    if await acts.until(lambda: bool(universe.ask(KEPT, ())), within=30.0, every=1.0):
        newest = universe.truth.connections[connection.successor or connection.key]
        universe.say(f"relost: {newest.key} loses its login again")
        lost_at = universe.now()
        universe.truth.lose_login(newest, lost_at)
        universe.acted.add(RELOST)
        _by_hand(universe, "health-sweep")
        await acts.until(lambda: _is_refused_since(universe, lost_at), within=300.0)
    episode.until = universe.now()


def _is_refused_since(universe: "Universe", at: datetime) -> bool:
    """Whether a read has shown since then that a login is lost."""
    return bool(universe.ask(
        "SELECT 1 FROM connection WHERE json_extract(judged, '$.lost_by') = 'read'"
        " AND json_extract(judged, '$.lost_at') > ?", (at.isoformat()[:19],),
    ))  # fmt: skip


async def reopens(universe: "Universe", acts: "SecondActs", rng: Random) -> None:
    """Slack is away before quiet hours; a lost login comes back and is lost again meanwhile, so
    that its incident is reopened. Once it is quiet Slack is back."""
    await asyncio.sleep(rng.uniform(20.0, 100.0))
    connection = acts.one()
    if connection is None or not universe.faulty(REOPENED):
        return
    key, truth, slack = connection.key, universe.truth, universe.slack
    universe.say(f"reopened: Slack is away, and {key} loses its login")
    slack.down = True
    truth.lose_login(connection, universe.now())
    for opening in (0, 1):
        _by_hand(universe, "health-sweep")
        if not await acts.until(lambda opening=opening: _is_due(universe, opening), within=600.0):
            break
        if opening == 0:
            universe.say(f"reopened: the login of {key} works again for a while")
            truth.restore_login(connection, universe.now())
            _by_hand(universe, "health-sweep")
            if not await acts.until(lambda: not universe.is_open(key, LOST), within=600.0):
                break
            truth.lose_login(connection, universe.now())
    else:
        universe.acted.add(REOPENED)
        left = QUIET_FROM - (universe.now() - universe.begins)
        await asyncio.sleep(max(0.0, left.total_seconds()) + rng.uniform(90.0, 400.0))
    slack.down = False
    universe.say("reopened: Slack is back")


def _is_due(universe: "Universe", opening: int) -> bool:
    """Whether a lost login that was reopened so often is to be said in Slack."""
    return bool(universe.ask(
        "SELECT 1 FROM notice n JOIN incident i ON i.id = n.incident_id WHERE i.kind = ?"
        " AND n.channel = 'slack' AND n.step = 'first' AND n.round = ?", (LOST, opening),
    ))  # fmt: skip


def _by_hand(universe: "Universe", flow: str) -> None:
    """Somebody starts a run."""
    run = SimRun(UUID(universe.clock.new_id()), flow, flow, False)
    universe.prefect.enqueue(run)


def _change(universe: "Universe", connection: "Connection", rng: Random) -> None:
    universe.truth.change(connection, rng.choice(connection.offers), universe.now(), "updated")


def _refuse(
    universe: "Universe", connection: "Connection", path: str, fault: Fault, seconds: float
) -> Episode:
    """Calls of `connection`, or of what a login made in its place, to `path` meet `fault` for so
    long."""

    def matches(request: Request) -> bool:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        newest = universe.truth.connections.get(connection.successor or connection.key, connection)
        is_theirs = any(pair.access == token for pair in (*connection.pairs, *newest.pairs))
        return request.host == "makini.sim" and is_theirs and request.path.startswith(path)

    now = universe.now()
    until = now + timedelta(seconds=seconds)
    episode = Episode(until, matches, fault, "arranged", now, "")
    universe.people.episodes.begin(episode)
    return episode


ACTS_OF = {
    INSISTED: insists, PAUSED: pauses, QUEUED: queues, RELISTED: relists, OVERTAKEN: overtakes,
    STOPPED: stops, REOPENED: reopens, RELOST: loses_again, LOCKED: locks,
    BREAKS: breaks_off,
}  # fmt: skip
