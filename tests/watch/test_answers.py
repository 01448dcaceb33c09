"""A receiver that writes to the database but does not answer is found by a sweep, and cleared."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import update
from sqlmodel import col, select

from linekeeper.clock import utcnow
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.tables import Incident, PartHeartbeat
from linekeeper.watch.answers import ReceiverAnswer, is_reachable, watch_answers, what_is_wrong
from linekeeper.watch.decide import Part
from linekeeper.watch.queries import read_parts
from tests.receiver.processes import free_port, start


async def open_incidents(store: Store) -> list[str]:
    async with store.read() as session:
        rows = await session.scalars(
            select(col(Incident.summary)).where(
                col(Incident.topic) == "answers", col(Incident.resolved_at).is_(None)
            )
        )
        return list(rows)


async def heard(store: Store) -> bool:
    """Whether the receiver wrote its heartbeat."""
    async with store.read() as session:
        return any(part.kind == "receiver" for part in await read_parts(session))


async def beats(store: Store) -> int:
    async with store.read() as session:
        return sum(part.kind == "receiver" for part in await read_parts(session))


async def gone_for(
    store: Store, length: timedelta, look: Callable[[], Awaitable[list[str]]]
) -> list[str]:
    """What is said once the receivers were heard last so long ago."""
    async with store.write() as session:
        await session.execute(
            update(PartHeartbeat)
            .where(col(PartHeartbeat.kind) == "receiver")
            .values(at=utcnow() - length)
        )
    return await look()


async def test_a_receiver_that_does_not_answer_is_an_incident_until_it_does(
    settings: Settings, store: Store, tmp_path: Path
) -> None:
    port, log = free_port(), tmp_path / "receiver.log"

    async def look() -> list[str]:
        async with Runtime.open(settings) as rt:
            await watch_answers(rt, timeout=30.0, again=0.1)
        return await open_incidents(store)

    receiver = await start("receiver", settings, log, port=port)
    async with asyncio.timeout(120):
        while not await heard(store):
            await asyncio.sleep(0.1)
    assert await look() == []

    await receiver.kill()  # its last heartbeat is still young
    [text] = await look()
    assert f"http://127.0.0.1:{port} got no answer: the connection failed" in text

    with socket.socket() as mute:  # what takes connections and never answers
        mute.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        mute.bind(("127.0.0.1", port))
        mute.listen()
        async with Runtime.open(settings) as rt:
            await watch_answers(rt, timeout=0.5, again=0.1)
        [text] = await open_incidents(store)
        assert "it did not answer within 0.5 s" in text

    receiver = await start("receiver", settings, log, port=port)
    try:
        assert await look() == []
        while await beats(store) < 2:
            await asyncio.sleep(0.1)
        await receiver.kill()
        [_] = await look()  # two were killed, and it is one address
        [writes_no_more] = await gone_for(store, timedelta(minutes=5), look)
        assert "last wrote at" in writes_no_more
    finally:
        await receiver.kill()


def test_what_cannot_be_asked_from_here_stays_as_it_is() -> None:
    at = datetime(2026, 11, 28, tzinfo=UTC)
    on_another_host = Part(
        "receiver:a", "receiver", "another.example", at, at, "http://127.0.0.1:8642"
    )
    assert not is_reachable(on_another_host)
    assert not is_reachable(Part("receiver:b", "receiver", socket.gethostname(), at, at))
    here = Part("receiver:c", "receiver", socket.gethostname(), at, at, "http://127.0.0.1:8642")
    assert is_reachable(here)
    assert what_is_wrong([on_another_host], [], set()) == []
    cause = "answers:another.example:http://127.0.0.1:8642"
    [kept] = what_is_wrong([on_another_host, here], [ReceiverAnswer(here)], {cause})
    assert kept.cause == cause
    assert what_is_wrong([], [], {cause}) == []
