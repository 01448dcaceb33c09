"""What the go-live of an implementation switches on: until then nobody is alarmed."""

from datetime import timedelta

from linekeeper.clock import utcnow
from linekeeper.implementation.advance import advance, advance_all
from linekeeper.implementation.change import Update, change
from linekeeper.implementation.order import Form
from linekeeper.implementation.progress import Progress
from linekeeper.implementation.report import implementation_markdown
from linekeeper.implementation.start import start
from linekeeper.incidents.news import find_news
from linekeeper.notify.evaluate import evaluate_alerts
from linekeeper.notify.view import Links
from linekeeper.store.tables import (
    Connection,
    ConnectLink,
    Customer,
    Implementation,
    Incident,
    Notice,
    Reconnect,
    Transition,
)
from linekeeper.sweep.sweep import due
from tests.reconnect.conftest import House
from tests.reconnect.post import Post
from tests.reconnect.test_ask import Opened, asking, outbox, post, work

__all__ = ["post"]
LINKS = Links(ui_url="../..", deployments={"connect": "c0ffee"})


async def implement(house: House, connection: Connection, *, before: bool = True) -> Progress:
    """An implementation that `connection` came with; or was there `before` it was started.

    By Makini's list it was made when it was first seen here.
    """
    house.fleet.world.connections[connection.makini_key].created_at = connection.created_at
    await house.sweep()
    [customer] = await house.rows(Customer, Customer.id == connection.customer_id)
    aside = timedelta(minutes=1)
    form = Form(
        customer=customer.name,
        systems=[connection.provider],
        complexity="standard",
        kickoff=utcnow().date(),
        owner="Petra",
        by="Olaf",
    )
    at = connection.created_at - aside if before else connection.created_at + aside
    started = await start(house.store, form, now=at)
    implementation = started.progress.standing.implementation
    progress = await advance(house.store, implementation.id, now=utcnow())
    assert [s.connection_id for s in progress.standing.systems] == [connection.id]
    return progress


async def go_live(house: House, progress: Progress) -> None:
    """Every gate that is left is skipped, the go-live last."""
    for gate in progress.standing.plan.gates:
        [row] = [r for r in progress.standing.gates.values() if r.gate == gate.id]
        if row.status in ("done", "skipped"):
            continue
        wanted = Update(
            progress.standing.implementation.slug, "skip", "Olaf", gate=gate.id, reason="known"
        )
        progress = (await change(house.store, wanted, now=utcnow())).progress
    assert progress.standing.implementation.status == "live"


async def alarmed(house: House) -> tuple[int, int]:
    """First notices there are, and what a sweep would be red for."""
    rt = house.rt
    configuration = await rt.configuration()
    await evaluate_alerts(rt.store, configuration, now=utcnow())
    firsts = await house.rows(Notice, Notice.step == "first")
    findings = await find_news(rt.store, policy=configuration.policy, now=utcnow())
    return len(firsts), len(findings.news)


async def test_before_the_go_live_only_its_implementation_says_what_is_wrong(
    open_house: Opened, post: tuple[Post, str]
) -> None:
    mailbox, url = post
    house = await asking(open_house, url)
    [connection, *_] = await house.connections()
    progress = await implement(house, connection)
    await house.lose_login(connection)
    await work(house)

    [incident] = await house.rows(Incident)
    assert (incident.status, await alarmed(house)) == ("open", (0, 0))
    assert await outbox(house, "email") == []
    assert await house.rows(ConnectLink) == []
    for _ in range(2):
        await advance_all(house.store, now=utcnow())
    rows = [r for r in await outbox(house, "slack") if "in trouble" in str(r.payload.get("text"))]
    assert len(rows) == 1
    assert (
        f"in trouble: {connection.provider} (Reauthorization required)" in rows[0].payload["text"]
    )
    progress = await advance(house.store, progress.standing.implementation.id, now=utcnow())
    shown = implementation_markdown(progress, utcnow(), LINKS)
    assert "The customer has to log in again" in shown
    assert f"run?parameters=%7B%22connection%22%3A%22{connection.id}" in shown

    await go_live(house, progress)
    await work(house)
    assert await alarmed(house) == (1, 1)
    assert len(mailbox.mails) == 1
    [reconnect] = await house.rows(Reconnect)
    [implementation] = await house.rows(Implementation)
    assert reconnect.deadline_at == implementation.live_at + timedelta(days=7)


async def test_with_the_go_live_a_connection_is_live_and_probed_at_once(house: House) -> None:
    [connection, *_] = await house.connections()
    progress = await implement(house, connection)
    async with house.store.write() as session:
        row = await session.get_one(Connection, connection.id)
        row.setup, row.next_probe_at = "syncing", utcnow() + timedelta(hours=1)
    app = (await house.rt.configuration()).apps["default"].model_copy(update={"per_minute": 600})
    policy = (await house.rt.configuration()).policy.model_copy(update={"probe_minutes": 10})
    assert connection.id not in (await due(house.rt, app, policy, now=utcnow())).ids
    await go_live(house, progress)
    assert connection.id in (await due(house.rt, app, policy, now=utcnow())).ids
    after = await house.connection(connection.id)
    assert (after.setup, after.suspect) == ("live", True)
    [moved] = await house.rows(
        Transition, Transition.axis == "setup", Transition.source == "implementation"
    )
    assert (moved.before, moved.after) == ("syncing", "live")


async def test_what_was_in_use_before_an_implementation_keeps_its_alerts(
    open_house: Opened, post: tuple[Post, str]
) -> None:
    mailbox, url = post
    house = await asking(open_house, url)
    [connection, *_] = await house.connections()
    await implement(house, connection, before=False)
    await house.lose_login(connection)
    await work(house)
    assert await alarmed(house) == (1, 1)
    assert len(mailbox.mails) == 1


async def test_an_abandoned_implementation_holds_no_alert_back(
    open_house: Opened, post: tuple[Post, str]
) -> None:
    mailbox, url = post
    house = await asking(open_house, url)
    [connection, *_] = await house.connections()
    progress = await implement(house, connection)
    await house.lose_login(connection)
    await work(house)
    assert (await alarmed(house), mailbox.mails) == ((0, 0), [])
    slug = progress.standing.implementation.slug
    await change(house.store, Update(slug, "abandon", "Olaf", reason="they left"), now=utcnow())
    await work(house)
    assert await alarmed(house) == (1, 1)
    assert len(mailbox.mails) == 1
