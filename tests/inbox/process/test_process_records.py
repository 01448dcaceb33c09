import pytest
from sqlalchemy import delete, select, update
from sqlmodel import col
from starlette.responses import JSONResponse, Response

from linekeeper.clock import utcnow
from linekeeper.consumer.events import MOST_ATTEMPTS
from linekeeper.consumer.record_events import process_record_events
from linekeeper.exact import read
from linekeeper.inbox.identify import record_keys
from linekeeper.inbox.plan import keys_left
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Change, Connection, Credential, WebhookEvent
from tests.inbox.process.front import Front, fronted
from tests.inbox.process.stage import Stage, about


async def changed(stage: Stage, which: Connection, entity: str, count: int = 3) -> list[str]:
    made = await stage.control(
        "records", connection=which.makini_key, entity=entity, make=count, announce=False
    )
    [keys] = [value["made"] for value in made["records"][which.makini_key].values()]
    return keys


def event_of(entity: str, keys: list[str]) -> dict[str, object]:
    return {"event": f"{entity.partition('/')[2]}.updated", "body": keys}


async def entity_of(stage: Stage, which: Connection) -> str:
    truth = await stage.truth()
    [records] = [
        incident["records"]
        for incident in truth["connections"]
        if incident["key"] == which.makini_key
    ]
    return next(iter(records))


async def test_the_records_an_event_names_are_read_and_stored(stage: Stage) -> None:
    [connection, *_] = stage.connections
    keys = await changed(stage, connection, "eam/assets")
    receipt = await stage.deliver(event_of("eam/assets", keys), to=connection)
    await stage.process()
    event = await stage.event(receipt.id)
    assert (event.status, event.connection_id) == ("processed", connection.id)
    assert {row.key for row in await stage.records()} == set(keys)
    async with stage.rt.store.read() as session:
        changes = list(await session.scalars(select(Change)))
    assert {(row.op, row.source, row.recovered) for row in changes} == {
        ("inserted", "webhook", False)
    }
    assert len(changes) == len(keys)


def nested(depth: int) -> bytes:
    """An event with a value of so many levels beside its keys."""
    return b'{"event":"assets.updated","body":["1"],"more":%b}' % (b"[" * depth + b"]" * depth)


async def test_a_body_that_makes_no_sense_is_dead_with_its_reason(stage: Stage) -> None:
    [connection, *_] = stage.connections
    for body, reason in (
        (b"\xff\xfe", "its body is no JSON object that can be read"),
        (nested(5_000), "nested more than 1,000 levels deep, which is not read: replaying"),
        (nested(400_000), "nested more than 1,000 levels deep"),
        (nested(5_000)[:-9], "nested more than 1,000 levels deep"),
        (b'{"event":"assets.updated","x":"' + b"[" * 5_000, "is no JSON object"),
        ({"hello": 1}, "it names no event"),
        ({"event": "moon.rising"}, "no kind is known for moon.rising"),
        ({"event": "assets.updated", "body": []}, "no record keys"),
    ):
        receipt = await stage.deliver(body, to=connection)
        await stage.process()
        event = await stage.event(receipt.id)
        assert event.status == "dead"
        assert reason in (event.error or "")


async def test_an_event_on_a_broken_login_is_left_to_the_back_fill(stage: Stage) -> None:
    [connection, *_] = stage.connections
    keys = await changed(stage, connection, "eam/assets")
    await stage.deliver(about(connection, "connection.auth_required", utcnow()))
    receipt = await stage.deliver(event_of("eam/assets", keys), to=connection)
    await stage.process()
    assert (await stage.event(receipt.id)).status == "deferred"
    assert await stage.records() == []


async def test_a_connection_without_token_is_deferred(stage: Stage) -> None:
    [connection, *_] = stage.connections
    async with stage.rt.store.write() as session:
        await session.execute(
            delete(Credential).where(col(Credential.connection_id) == connection.id)
        )
    receipt = await stage.deliver(event_of("eam/assets", ["1"]), to=connection)
    await stage.process()
    event = await stage.event(receipt.id)
    assert (event.status, event.error) == ("deferred", "the connection has no token")


async def test_a_login_that_breaks_while_reading_is_seen_at_once(stage: Stage) -> None:
    [connection, *_] = stage.connections
    keys = await changed(stage, connection, "eam/assets")
    await stage.control(f"connections/{connection.makini_key}/change-credentials")
    receipt = await stage.deliver(event_of("eam/assets", keys), to=connection)
    await stage.process()
    assert (await stage.event(receipt.id)).status == "deferred"
    assert (await stage.connection(connection)).health == "reauthorization_required"
    assert len(await stage.incidents()) == 1


async def test_keys_without_connection_are_found_in_the_record_index(stage: Stage) -> None:
    [connection, *_] = stage.connections
    keys = await changed(stage, connection, "eam/assets")
    await stage.deliver(event_of("eam/assets", keys), to=connection)
    await stage.process()
    known = await stage.deliver(event_of("eam/assets", keys[:1]))
    unknown = await stage.deliver(event_of("eam/assets", ["no-such-key"]))
    await stage.process()
    event = await stage.event(known.id)
    assert (event.status, event.connection_id) == ("processed", connection.id)
    assert (await stage.event(unknown.id)).status == "unrouted"


async def test_the_same_content_after_a_claim_is_a_new_event(stage: Stage) -> None:
    [connection, *_] = stage.connections
    keys = await changed(stage, connection, "eam/assets")
    first, merged = [
        await stage.deliver(event_of("eam/assets", keys), to=connection) for _ in range(2)
    ]
    await stage.process()
    later = await stage.deliver(event_of("eam/assets", keys), to=connection)
    assert (merged.id, merged.is_new, later.is_new) == (first.id, False, True)


async def test_a_makini_that_is_away_is_asked_again_and_its_ordering_key_waits(
    stage: Stage,
) -> None:
    [connection, two, *_] = stage.connections
    mine, other = (
        await changed(stage, connection, "eam/assets"),
        await changed(stage, two, "eam/assets"),
    )
    await stage.control(f"connections/{connection.makini_key}/go-offline")
    first = await stage.deliver(event_of("eam/assets", mine), to=connection)
    blocked = await stage.deliver(event_of("eam/work-orders", ["x"]), to=connection)
    free = await stage.deliver(event_of("eam/assets", other), to=two)
    await stage.process()
    assert [(await stage.event(r.id)).status for r in (first, blocked, free)] == [
        "pending",
        "pending",
        "processed",
    ]
    waiting = await stage.event(first.id)
    assert waiting.attempts == 1
    assert waiting.next_attempt_at > utcnow()
    assert (await stage.event(blocked.id)).attempts == 0
    await stage.control(f"connections/{connection.makini_key}/come-online")
    await make_due(stage)
    await stage.process()
    assert {event.status for event in await stage.events()} == {"processed"}


async def make_due(stage: Stage) -> None:
    async with stage.rt.store.write() as session:
        await session.execute(
            update(WebhookEvent)
            .where(col(WebhookEvent.status) == "pending")
            .values(next_attempt_at=utcnow())
        )


@pytest.mark.parametrize("odd", ["..", "odd", "null", pytest.param("7" * 70_000, id="long")])
async def test_a_key_that_cannot_be_read_kills_no_event_but_those_that_name_it(
    stage: Stage, odd: str
) -> None:
    [connection, *_] = stage.connections
    keys = await changed(stage, connection, "eam/assets", 4)
    bodies = [event_of("eam/assets", [key]) for key in keys[:2]]
    bodies += [event_of("eam/assets", [keys[2], odd]), event_of("eam/assets", [keys[3]])]
    async with fronted(stage, Front(stage.fleet.url, _odd)) as seen:
        await seen.deliver_all([(body, connection) for body in bodies])
        await seen.process()
    events = await stage.events()
    named = "processed" if odd == "null" else "dead"
    assert [event.status for event in events] == ["processed", "processed", named, "processed"]
    assert {event.connection_id for event in events} == {connection.id}
    assert {row.key for row in await stage.records()} == set(keys)


async def test_a_page_of_maintenance_kills_no_event(stage: Stage) -> None:
    [connection, *_] = stage.connections
    [key] = await changed(stage, connection, "eam/assets", 1)
    pages = [
        Response("<html><title>Back soon</title></html>", media_type="text/html"),
        JSONResponse({"status": "maintenance"}),
        JSONResponse({"data": {"key": "another", "name": "Pump"}}),
    ]
    for page in pages:
        async with fronted(stage, Front(stage.fleet.url, lambda _, page=page: page)) as seen:  # type: ignore[misc]
            receipt = await seen.deliver(event_of("eam/assets", [key]), to=connection)
            await seen.process()
            assert (await stage.event(receipt.id)).status == "pending"
            assert await stage.records() == []
    await make_due(stage)
    await stage.process()
    assert {event.status for event in await stage.events()} == {"processed"}
    assert [row.key for row in await stage.records()] == [key]


async def test_errors_in_place_of_data_are_no_sign_that_a_record_is_gone(stage: Stage) -> None:
    [connection, *_] = stage.connections
    [key] = await changed(stage, connection, "eam/assets", 1)

    def complain(last: str) -> Response:
        nothing = None if last == key else []
        return JSONResponse({"data": nothing, "errors": ["The platform does not answer."]})

    async with fronted(stage, Front(stage.fleet.url, complain)) as seen:
        receipt = await seen.deliver(event_of("eam/assets", [key]), to=connection)
        await seen.process()
    event = await stage.event(receipt.id)
    assert event.status == "pending"
    assert "The platform does not answer" in (event.error or "")
    await make_due(stage)
    await stage.process()
    assert [row.key for row in await stage.records()] == [key]


def _odd(key: str) -> Response | None:
    if key == "null":
        return JSONResponse({"data": None})
    return JSONResponse({"message": "The key is invalid."}, 422) if key == "odd" else None


async def test_what_was_read_when_time_runs_out_is_kept_and_never_read_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    [connection, *_] = stage.connections
    keys = await changed(stage, connection, "eam/assets", 60)
    front = Front(stage.fleet.url, last_filter_only=True, open_for=20)
    async with fronted(stage, front) as seen:
        await seen.deliver_all([(event_of("eam/assets", [key]), connection) for key in keys])
        monkeypatch.setattr("linekeeper.consumer.readers.READ_SECONDS", 3.0)
        assert await process_record_events(seen.rt)
        assert 0 < len(await read_by(stage)) < len(keys)
        waiting = [event for event in await stage.events() if event.status == "pending"]
        assert {(event.attempts, event.claimed_by) for event in waiting} == {(0, None)}
        front.open_for = None
        monkeypatch.setattr("linekeeper.consumer.readers.READ_SECONDS", 60.0)
        await make_due(stage)
        await seen.process()
    assert await read_by(stage) == set(keys)
    assert {event.status for event in await stage.events()} == {"processed"}
    assert len(front.singles) == len(set(front.singles))


async def read_by(stage: Stage) -> set[str]:
    """The keys of the events that are processed, all of whose records are stored."""
    done = [event for event in await stage.events() if event.status == "processed"]
    named = {key for event in done for key in record_keys(read(event.body or b""))}
    assert {row.key for row in await stage.records()} >= named
    return named


async def test_an_event_of_more_keys_than_time_allows_remembers_which_are_done(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    [connection, *_] = stage.connections
    *many, last = await changed(stage, connection, "eam/assets", 60)
    front = Front(stage.fleet.url, last_filter_only=True, open_for=20)
    async with fronted(stage, front) as seen:
        big = await seen.deliver(event_of("eam/assets", many), to=connection)
        small = await seen.deliver(event_of("eam/assets", [last]), to=connection)
        monkeypatch.setattr("linekeeper.consumer.readers.READ_SECONDS", 3.0)
        assert await process_record_events(seen.rt)
        event = await stage.event(big.id)
        assert (event.status, event.attempts, event.claimed_by) == ("pending", 0, None)
        left = keys_left(many, event.keys_done)
        stored = {row.key for row in await stage.records()}
        assert stored & set(many) == set(many) - set(left)
        assert 0 < len(left) < len(many)
        front.open_for = None
        monkeypatch.setattr("linekeeper.consumer.readers.READ_SECONDS", 60.0)
        await make_due(stage)
        await seen.process()
    assert [(await stage.event(receipt.id)).status for receipt in (big, small)] == ["processed"] * 2
    assert {row.key for row in await stage.records()} == {*many, last}
    assert len(front.singles) == len(set(front.singles))


async def test_an_event_of_which_something_was_read_counts_its_attempts_anew(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the call limit that ends each try has it wait ever longer, and what is behind it."""
    [connection, *_] = stage.connections
    many = await changed(stage, connection, "eam/assets", 60)
    front = Front(stage.fleet.url, last_filter_only=True, open_for=20)
    async with fronted(stage, front) as seen:
        big = await seen.deliver(event_of("eam/assets", many), to=connection)
        async with stage.rt.store.write() as session:
            event = await session.get_one(WebhookEvent, big.id)
            event.attempts = 9  # it was refused as often
            session.add(event)
        monkeypatch.setattr("linekeeper.consumer.readers.READ_SECONDS", 3.0)
        assert await process_record_events(seen.rt)
        event = await stage.event(big.id)
    assert 0 < len(keys_left(many, event.keys_done)) < len(many)
    assert (event.status, event.attempts) == ("pending", 0)


async def test_an_event_waits_for_its_app_to_be_in_the_settings_again(stage: Stage) -> None:
    """Somebody cleared the settings, or another app stood in its place for a while."""
    [connection, *_] = stage.connections
    keys = await changed(stage, connection, "eam/assets")
    receipt = await stage.deliver(event_of("eam/assets", keys), to=connection)
    cleared = stage.rt.settings.model_copy(
        update={"makini_api_url": None, "makini_client_id": None}
    )
    async with Runtime.open(cleared) as without:
        assert not (await without.configuration()).apps
        for _ in range(MOST_ATTEMPTS + 1):
            while await process_record_events(without):
                pass
            await make_due(stage)
    event = await stage.event(receipt.id)
    assert event.status == "pending"
    assert "no Makini app default is configured" in str(event.error)
    await stage.process()
    assert (await stage.event(receipt.id)).status == "processed"
    assert {row.key for row in await stage.records()} == set(keys)
