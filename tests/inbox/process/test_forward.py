"""Handing on to the product: signed, in order for each connection, for three days, each event."""

import base64
import hmac
from collections.abc import Callable
from datetime import datetime, timedelta

import orjson
import pytest
from sqlalchemy import select
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.outbox.forward import RecoveredChange, forward_changes, signed_headers
from linekeeper.outbox.senders.forward import forwarding
from linekeeper.runtime import Runtime
from linekeeper.store import new_id
from linekeeper.store.tables import Connection, Incident, Outbox
from linekeeper.sweep.webhooks import watch_stream as watch
from tests.inbox.process.product import SECRET
from tests.inbox.process.stage import Stage, about
from tests.patient import attended


async def online(stage: Stage, *which: Connection) -> list[str]:
    """An applied event about each; their ids."""
    receipts = [
        await stage.deliver(about(connection, "connection.status_changed", utcnow(), to="online"))
        for connection in which
    ]
    await stage.process()
    return [receipt.id for receipt in receipts]


def later(**delta: float) -> Callable[[], datetime]:
    """That moment; it stands still, so that nothing falls due while a slow machine delivers."""
    moment = utcnow() + timedelta(**delta)
    return lambda: moment


async def forward(stage: Stage, clock: Callable[[], datetime]) -> None:
    async with forwarding(stage.rt, clock) as forwarder:
        while await forwarder.deliver():
            pass


async def states(stage: Stage) -> list[tuple[str, int]]:
    return [(row.status, row.attempts) for row in await stage.forwards()]


def test_the_signature_is_the_one_of_the_standard() -> None:
    at = datetime.fromtimestamp(1614265330).astimezone()
    headers = signed_headers(
        "msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}', SECRET, now=at
    )
    assert headers["webhook-timestamp"] == "1614265330"
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    plain = signed_headers("a", b"{}", "typed in", now=at)
    digest = hmac.digest(b"typed in", b"a.1614265330.{}", "sha256")
    assert plain["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"
    assert "webhook-signature" not in signed_headers("a", b"{}", "", now=at)


async def test_an_event_is_handed_on_as_interface_says_with_makinis_own_bytes(
    stage: Stage,
) -> None:
    [connection, *_] = stage.connections
    raw = b'{ "event":"assets.updated",\n "body":["0001", "0001", "2"], "x": 1.10 }'
    receipt = await stage.deliver(raw, to=connection)
    await stage.process()
    await stage.forward()
    event = await stage.event(receipt.id)
    [(identity, body)] = stage.product.taken
    assert identity == receipt.id
    assert stage.product.unverified == 0
    at = event.received_at.isoformat(timespec="microseconds").replace("+00:00", "Z")
    assert body == {
        "type": "record.updated",
        "timestamp": at,
        "data": {
            "connection": connection.id,
            "makini_key": connection.makini_key,
            "entity": "eam/assets",
            "keys": ["0001", "2"],
            "recovered": False,
            "original": orjson.loads(raw),
        },
    }
    assert raw in stage.product.raw[0]


async def test_each_accepted_delivery_is_handed_on_whatever_became_of_it(stage: Stage) -> None:
    [connection, *_] = stage.connections
    now = utcnow()
    bodies = [
        (about(connection, "connection.auth_required", now), None),
        (about(connection, "sync.completed", now - timedelta(hours=1), result="success"), None),
        ({"event": "assets.updated", "body": ["1"]}, connection),
        ({"event": "assets.updated", "body": ["1"]}, "nobody"),
        (b"\xff not JSON", None),
    ]
    receipts = await stage.deliver_all(bodies)
    await stage.process()
    await stage.forward()
    became = [(await stage.event(receipt.id)).status for receipt in receipts]
    assert became == ["processed", "stale", "deferred", "unrouted", "dead"]
    assert {identity for identity, _ in stage.product.taken} == {one.id for one in receipts}
    senseless = next(body for identity, body in stage.product.taken if identity == receipts[4].id)
    assert "original" not in senseless["data"]


async def test_a_refused_message_holds_up_its_connection_and_nobody_else(stage: Stage) -> None:
    [connection, two, *_] = stage.connections
    [first] = await online(stage, connection)
    stage.product.refuses = {first}  # also when it is tried again, which a slow machine does
    await stage.forward()
    assert set(stage.product.refused) == {first}
    second, other = await online(stage, connection, two)
    await stage.forward()
    assert [identity for identity, _ in stage.product.taken] == [other]
    stage.product.refuses.clear()
    await forward(stage, later(minutes=4))
    taken = [identity for identity, _ in stage.product.taken]
    assert taken == [other, first, second]
    assert stage.product.unverified == 0


async def kinds(stage: Stage) -> dict[str, str]:
    """Open incidents about webhooks, with what they say."""
    async with stage.rt.store.read() as session:
        rows = await session.scalars(
            select(Incident).where(
                col(Incident.topic) == "stream", col(Incident.resolved_at).is_(None)
            )
        )
        return {row.kind: row.title for row in rows}


async def test_people_hear_of_a_refused_message_after_minutes_and_of_its_end(stage: Stage) -> None:
    [connection, two, *_] = stage.connections
    [first] = await online(stage, connection)
    stage.product.answers = [422] * 6
    for minutes in (0, 1, 2):
        await forward(stage, later(minutes=minutes))
    await online(stage, connection)
    await watch(stage.rt, utcnow())
    assert await kinds(stage) == {}
    await forward(stage, later(minutes=30))
    await watch(stage.rt, utcnow() + timedelta(minutes=40))
    said = await kinds(stage)
    assert list(said) == ["forward_refused"]  # what waits behind it is no trouble of its own
    assert "1 message refused by the product" in said["forward_refused"]
    assert f"answered 422 to webhook-id {first}" in said["forward_refused"]
    stage.product.answers.clear()
    await online(stage, two)
    await forward(stage, later(hours=1))
    await watch(stage.rt, utcnow() + timedelta(hours=1))
    assert await kinds(stage) == {}
    assert len(stage.product.taken) == 3


async def test_an_address_that_is_gone_is_told_at_once_and_asked_every_ten_minutes(
    stage: Stage,
) -> None:
    ids = await online(stage, *stage.connections)
    stage.product.answers = [410] * 200
    moment = utcnow()
    async with forwarding(stage.rt, lambda: moment) as forwarder:
        while await forwarder.deliver():
            pass
        asked = len(stage.product.refused)
        for _ in range(9):
            moment += timedelta(minutes=1)
            await forwarder.deliver()
        assert len(stage.product.refused) == asked
        await watch(stage.rt, moment)
        assert list(await kinds(stage)) == ["forward_refused"]
        moment += timedelta(minutes=2)
        await forwarder.deliver()
        assert len(stage.product.refused) == asked + 1
        stage.product.answers.clear()
        moment += timedelta(minutes=11)
        while await forwarder.deliver():
            pass
    assert {identity for identity, _ in stage.product.taken} == set(ids)
    await watch(stage.rt, moment)
    assert await kinds(stage) == {}


async def test_people_are_notified_that_the_address_is_gone_where_they_knew_of_a_refusal(
    stage: Stage,
) -> None:
    """One message that is refused holds up one connection, an address that is gone all of them."""
    await online(stage, stage.connections[0])
    stage.product.answers = [422] * 4 + [410] * 9
    for minutes in (0, 1, 2, 30):
        await forward(stage, later(minutes=minutes))
    await watch(stage.rt, utcnow() + timedelta(minutes=40))
    for hours in (1, 2):
        await forward(stage, later(hours=hours))
        await watch(stage.rt, utcnow() + timedelta(hours=hours))
        if hours == 1:
            assert "address" in (await kinds(stage))["forward_refused"]
            stage.product.answers = [422] * 9
    async with stage.rt.store.read() as session:
        replies = select(col(Outbox.payload)).where(col(Outbox.channel) == "slack")
        said = [row["text"] for row in await session.scalars(replies) if row["do"] == "timeline"]
    assert len(said) == 3
    assert "1 message refused" in said[0]
    assert "410 Gone" in said[1]
    assert "1 message refused" in said[2]


async def test_what_is_said_of_a_products_address_holds_no_token(stage: Stage) -> None:
    secrets = ("userinfo-token", "path-token", "query-token")
    there = stage.product.url.replace("http://", f"http://user:{secrets[0]}@")
    settings = stage.rt.settings.model_copy(
        update={"forward_url": f"{there}/{secrets[1]}?key={secrets[2]}"}
    )
    async with Runtime.open(settings) as rt:
        own = Stage(rt, stage.fleet, stage.product, stage.connections)
        await online(own, stage.connections[0])
        for answers in ([400] * 9, [410] * 9, [500] * 9):
            stage.product.answers = answers
            await forward(own, later(hours=len(stage.product.refused)))
            [row] = await own.forwards()
            assert " answered " in (row.error or "")
            assert not any(secret in (row.error or "") for secret in secrets)
        assert len(stage.product.refused) == 3
        stage.product.answers = [400] * 99
        for ahead in attended(timedelta(hours=3), timedelta(days=4)):
            await forward(own, later(seconds=ahead.total_seconds()))
        await watch(rt, utcnow())
        async with rt.store.read() as session:
            said = str([row.model_dump() for row in await session.scalars(select(Incident))])
            said += str([row.model_dump() for row in await session.scalars(select(Outbox))])
    assert "given up" in said
    assert not any(secret in said for secret in secrets)


async def test_a_recovered_change_is_handed_on_once(stage: Stage) -> None:
    [connection, *_] = stage.connections
    app = await stage.rt.app("default")
    change = RecoveredChange(
        id=new_id(),
        connection_id=connection.id,
        makini_key=connection.makini_key,
        entity="eam/assets",
        key="0007",
        op="updated",
        at=datetime.fromisoformat("2026-01-01T12:00:00+00:00"),
    )
    for _ in range(2):
        async with stage.rt.store.write() as session:
            await forward_changes(stage.rt.store, session, app, [change], now=utcnow())
    await stage.forward()
    assert stage.product.taken == [
        (
            change.id,
            {
                "type": "record.updated",
                "timestamp": "2026-01-01T12:00:00.000000Z",
                "data": {
                    "connection": connection.id,
                    "makini_key": connection.makini_key,
                    "entity": "eam/assets",
                    "keys": ["0007"],
                    "recovered": True,
                },
            },
        )
    ]


async def test_without_a_forward_url_nothing_is_written(stage: Stage) -> None:
    settings = stage.rt.settings.model_copy(update={"forward_url": None})
    async with Runtime.open(settings) as rt:
        await online(Stage(rt, stage.fleet, stage.product, stage.connections), *stage.connections)
    assert await stage.forwards() == []


async def test_a_slow_or_talkative_product_does_not_hold_us(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linekeeper.outbox.senders.forward.ForwardSender.deadline_seconds", 0.2)
    [connection, *_] = stage.connections
    await online(stage, connection)
    stage.product.wait = 0.8
    await forward(stage, utcnow)
    assert [status for status, _ in await states(stage)] == ["pending"]
    monkeypatch.undo()  # what comes is cut off by its size, however slow the machine is
    stage.product.wait = 0.0
    stage.product.says = b"x" * 10_000_000
    await forward(stage, later(minutes=5))
    assert [status for status, _ in await states(stage)] == ["sent"]
