"""What only a person can tell apart after a new login waits for one, who pairs or accepts it."""

from collections import Counter
from typing import Any

import pytest
from sqlalchemy import update
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.reconcile.decisions import decide_deletions
from linekeeper.reconcile.match_decisions import MatchOutcome, NoMatch, decide_matches, waiting_at
from linekeeper.store.tables import (
    Connection,
    Deletion,
    Incident,
    Record,
)
from linekeeper.views.match_page import match_markdown
from sandbox.fleet import Connection as Listed
from tests.reconcile.test_succession import (
    ORDERS,
    agrees,
    feed,
    house,
    keys,
    listed,
    logged_in,
    run,
)
from tests.reconnect.conftest import House, open_house

__all__ = ["house", "open_house"]  # fixtures


async def made_twins(house: House, connection: Listed) -> tuple[str, str]:
    """Two work orders with the same number, title and time of creation; only the notes differ."""
    world = house.fleet.world
    collection = world.records.of(connection)[ORDERS]
    first, second = collection.key(3), collection.key(4)
    shared = {"code": "WO-TWIN", "title": "Inspect pump", "createdAt": "2025-03-01T08:00:00Z"}
    for key, notes in ((first, "north"), (second, "south")):
        world.put_record(connection, ORDERS, {"key": key, "notes": notes, **shared}, announce=False)
    return first, second


async def with_twins(house: House) -> tuple[Connection, tuple[str, str], tuple[str, str]]:
    """A successor whose listing has twins: it, their old keys and their new keys."""
    [connection, _] = await house.connections()
    was = listed(house, connection)
    await made_twins(house, was)
    await run(house, full=True)
    before = len(await feed(house))
    known = keys(house, was)
    new = await logged_in(house, connection, "rename")
    now = keys(house, listed(house, new))
    await run(house)
    changes = (await feed(house))[before:]
    renamed = {c["old_key"]: c["key"] for c in changes if c["entity"] == ORDERS}
    assert renamed == {known[n]: key for n, key in now.items() if n not in (3, 4)}
    assert {c["op"] for c in changes} == {"rekeyed"}
    return new, (known[3], known[4]), (now[3], now[4])


async def since_then(house: House, count: int) -> list[dict[str, Any]]:
    return (await feed(house))[count:]


async def test_twins_wait_for_a_person_who_pairs_them(house: House) -> None:
    new, olds, news = await with_twins(house)
    [incident] = await house.rows(Incident, Incident.kind == "records_unmatched")
    assert (incident.status, incident.detail["ambiguous"]) == ("open", 2)
    for _ in range(3):
        await run(house, full=True)
    count = len(await feed(house))
    waiting = await waiting_at(house.rt, new.makini_key)
    [group] = waiting.groups
    assert (set(group.old), set(group.new)) == (set(olds), set(news))
    page = match_markdown(waiting, None)
    assert all(key in page for key in (*olds, *news, "WO-TWIN"))
    with pytest.raises(NoMatch, match="not of one group"):
        await decide(house, new, "pair", {olds[0]: "0"})
    with pytest.raises(NoMatch, match=f"any more: {olds[1]} = {news[0]}; nothing was done"):
        await decide(house, new, "pair", {olds[0]: news[0], olds[1]: news[0]})
    done = await decide(house, new, "pair", {olds[0]: news[0]})
    assert (done.matched, done.new, done.left) == (1, 0, 1)
    done = await decide(house, new, "distinct", {})
    assert (done.matched, done.new, done.left) == (0, 1, 0)
    changes = await since_then(house, count)
    assert [(c["op"], c.get("old_key"), c["key"]) for c in changes] == [
        ("rekeyed", olds[0], news[0]),
        ("inserted", None, news[1]),
    ]
    [incident] = await house.rows(Incident, Incident.kind == "records_unmatched")
    assert incident.status == "resolved"
    for _ in range(2):
        await run(house, full=True)
    [last] = await since_then(house, count + 2)
    assert (last["op"], last["key"]) == ("deleted", olds[1])
    await agrees(house, new)


async def test_twins_of_the_same_contents_are_paired_at_once(house: House) -> None:
    new, olds, news = await with_twins(house)
    count = len(await feed(house))
    done = await decide(house, new, "same_contents", {})
    assert (done.matched, done.new, done.left) == (2, 0, 0)
    changes = await since_then(house, count)
    assert {c["old_key"]: c["key"] for c in changes} == dict(zip(olds, news, strict=True))
    await run(house, full=True)
    await agrees(house, new)
    with pytest.raises(NoMatch, match="nothing waits"):
        await decide(house, new, "distinct", {})


async def decide(
    house: House, connection: Connection, decision: Any, pairs: dict[str, str]
) -> MatchOutcome:
    return await decide_matches(
        house.rt, connection.makini_key, decision, pairs=pairs, by="Petra", now=utcnow()
    )


async def test_what_stays_unmatched_is_accepted_as_gone_in_the_form_of_deletions(
    house: House,
) -> None:
    [connection, _] = await house.connections()
    async with house.store.write() as session:
        await session.execute(
            update(Record)
            .where(col(Record.entity) == ORDERS)
            .values(number=None, natural_key=None, plain_hash=None, updated_at=None)
        )
    new = await logged_in(house, connection, "rename")
    await run(house)
    [held] = await house.rows(Deletion)
    await decide_deletions(house.rt, held.id, "accept", by="Petra", now=utcnow())
    counts = Counter(c["op"] for c in await feed(house) if c["entity"] == ORDERS)
    assert counts == {"inserted": held.records, "deleted": held.records}
    assert [row.status for row in await house.rows(Incident)] == ["resolved"]
    await agrees(house, new)


async def test_a_record_whose_old_twin_went_before_a_person_paired_them_is_published_as_new(
    house: House,
) -> None:
    """Else the product never heard of it: it was told that the old one is deleted, and no more."""
    new, olds, news = await with_twins(house)
    count = len(await feed(house))
    gone = {"key": olds[0], "deletedAt": utcnow().isoformat()}
    house.fleet.world.put_record(listed(house, new), ORDERS, gone, announce=False)
    await run(house, full=True)
    [deleted] = await since_then(house, count)
    assert (deleted["op"], deleted["key"]) == ("deleted", olds[0])
    done = await decide(house, new, "pair", {olds[0]: news[0], olds[1]: news[1]})
    assert (done.matched, done.new, done.left) == (1, 1, 0)
    changes = await since_then(house, count + 1)
    assert [(c["op"], c.get("old_key"), c["key"]) for c in changes] == [
        ("inserted", None, news[0]),
        ("rekeyed", olds[1], news[1]),
    ]
    [incident] = await house.rows(Incident, Incident.kind == "records_unmatched")
    assert incident.status == "resolved"
