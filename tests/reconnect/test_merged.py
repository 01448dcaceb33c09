"""Cases that go on in another incident: nobody is asked twice, and nothing is called back."""

from collections import Counter

from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.outbox.senders.reconnect import advance_due_cases
from linekeeper.reconnect.case import load_case
from linekeeper.reconnect.process import close, next_step, take_up
from linekeeper.store.tables import Connection, Contact, Customer, Outbox, Reconnect
from tests.reconnect.conftest import House
from tests.reconnect.post import listening
from tests.reconnect.test_ask import Opened, asking, work


async def lost_one_by_one(here: House) -> list[Connection]:
    """Nine customers of one provider lose their logins: first nine cases, in the end one."""
    for number in range(9):
        here.fleet.world.create(name=f"C {number} · Fiix", email="it@c.example", provider="fiix")
    await here.sweep()
    async with here.store.write() as session:
        for customer in await here.rows(Customer, col(Customer.name).like("C %")):
            session.add(Contact(customer_id=customer.id, email=f"it@{customer.slug}.example"))
    fiix = [each for each in await here.connections() if each.provider == "Fiix"]
    for connection in fiix:
        await here.lose_login(connection)
        await work(here)
    assert {case.outcome for case in await here.rows(Reconnect)} == {None, "moved"}
    return fiix


async def test_a_customer_who_was_mailed_is_not_mailed_again_as_incidents_become_one(
    open_house: Opened,
) -> None:
    async with listening() as post:
        here = await asking(open_house, post.url)
        fiix = await lost_one_by_one(here)
        mailed = Counter(mail["To"] for mail in post.mails)
        assert len(mailed) == len(fiix)
        assert set(mailed.values()) == {1}


async def test_who_was_asked_in_the_incident_before_hears_that_it_works_again(
    open_house: Opened,
) -> None:
    async with listening() as post:
        here = await asking(open_house, post.url)
        fiix = await lost_one_by_one(here)
        [case] = [each for each in await here.rows(Reconnect) if each.outcome is None]
        await take_up(here.rt, case.incident_id, "a run", now=utcnow())
        await close(here.rt, case.incident_id, "reconnected", now=utcnow())
        thanks = await here.rows(Outbox, col(Outbox.dedupe_key).like("%:thank"))
        assert len(thanks) == len(fiix)


async def test_a_lost_login_whose_connection_disappears_is_not_called_reconnected(
    open_house: Opened,
) -> None:
    here = await open_house(connections=8)
    [connection, *_] = await here.connections()
    await here.lose_login(connection)
    await advance_due_cases(here.rt)
    [incident] = await here.incidents()
    await take_up(here.rt, incident.id, "a run", now=utcnow())
    here.fleet.world.remove(here.fleet.world.connections[connection.makini_key])
    for _ in range(2):
        await here.sweep()
    await advance_due_cases(here.rt)
    case = await load_case(here.store, incident.id, now=utcnow())
    assert case is not None
    assert case.incident.resolved_at is not None
    assert next_step(case, "a run") == "moved"
    assert await close(here.rt, incident.id, "moved", now=utcnow()) == (
        "continued in another incident"
    )


async def test_an_incident_that_is_part_of_a_wider_one_is_over_in_the_event_feed_too(
    open_house: Opened,
) -> None:
    """Who counts open incidents by their events had counted it for good."""
    async with listening() as post:
        here = await asking(open_house, post.url)
        await lost_one_by_one(here)
        incidents = await here.incidents()
        events = await here.rows(Outbox, col(Outbox.channel) == "event")
        said: dict[str, list[str]] = {incident.id: [] for incident in incidents}
        for event in sorted(events, key=lambda row: row.seq):
            if event.payload["name"].startswith("linekeeper.incident."):
                about = event.payload["payload"]
                said[about["incident"]].append(f"{event.payload['name'][20:]} ({about['what']})")
        assert sum(incident.resolved_at is None for incident in incidents) == 1
        for incident in incidents:
            ends = ["resolved (merged)"] if incident.resolved_at else []
            assert said[incident.id] == ["opened (opened)", *ends]
