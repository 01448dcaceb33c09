"""What the webhooks routes answer, and what is in the database then (INTERFACE "Over HTTP")."""

import asyncio
import base64
import hmac
import json
import re
from datetime import timedelta
from itertools import product

import pytest
from sqlmodel import select

from linekeeper.clock import utcnow
from linekeeper.inbox.tally import Tally
from linekeeper.outbox.forward import signed_headers
from linekeeper.store.tables import DeliveryCount, RejectedDelivery
from tests.receiver.conftest import STANDARD_SECRET, Here, signature

EVENT = {"id": "evt_1", "event": "assets.updated", "body": ["0900"], "connection_id": "c1"}
BODY = json.dumps(EVENT).encode()


async def test_an_accepted_delivery_is_durable_and_unprocessed_when_it_is_answered(
    here: Here,
) -> None:
    answer = await here.post(BODY, "/webhooks/default/from-url")
    [event] = await here.events()
    assert answer.status_code == 200
    assert answer.json() == {"status": "accepted", "id": event.id}
    assert (event.status, event.attempts, event.body) == ("pending", 0, BODY)
    assert (event.app, event.delivery_key, event.kind) == ("default", "evt_1", "record.updated")
    assert (event.connection_ref, event.url_connection) == ("c1", "from-url")


async def test_a_repeat_is_answered_with_the_first_ones_id_and_leaves_no_row(here: Here) -> None:
    """W1: duplicates happen."""
    first = (await here.post(BODY)).json()
    again = await here.post(json.dumps({**EVENT, "body": ["other"]}).encode())
    assert (again.status_code, again.json()) == (200, {"status": "duplicate", "id": first["id"]})
    assert len(await here.events()) == 1


async def test_two_connections_may_have_the_same_id(here: Here) -> None:
    """A Makini may count its deliveries by connection."""
    other = json.dumps({**EVENT, "connection_id": "c2"}).encode()
    first, second = (await here.post(BODY)).json(), (await here.post(other)).json()
    assert (first["status"], second["status"]) == ("accepted", "accepted")
    assert (await here.post(BODY)).json() == {"status": "duplicate", "id": first["id"]}
    assert (await here.post(other)).json() == {"status": "duplicate", "id": second["id"]}
    together = await asyncio.gather(*(here.post(body) for body in (other, BODY) * 5))
    assert {answer.json()["status"] for answer in together} == {"duplicate"}
    found = {event.connection_ref: event.delivery_key for event in await here.events()}
    assert found["c1"] == "evt_1"
    assert found["c2"].startswith("evt_1#")


async def test_two_connections_with_the_same_id_at_once_are_both_stored(here: Here) -> None:
    bodies = [
        json.dumps({**EVENT, "connection_id": f"c{number % 5}"}).encode() for number in range(20)
    ]
    answers = await asyncio.gather(*(here.post(body) for body in bodies))
    said = [answer.json()["status"] for answer in answers]
    assert sorted(said) == ["accepted"] * 5 + ["duplicate"] * 15
    assert {event.connection_ref for event in await here.events()} == {f"c{n}" for n in range(5)}


async def test_a_captured_body_is_no_new_delivery_under_another_url(here: Here) -> None:
    captured = json.dumps({"id": "evt_9", "event": "assets.updated", "body": ["1"]}).encode()
    first = (await here.post(captured, "/webhooks/default/c1")).json()
    again = (await here.post(captured, "/webhooks/default/c2")).json()
    assert again == {"status": "duplicate", "id": first["id"]}


async def test_a_captured_body_is_no_new_delivery_under_another_unsigned_id(here: Here) -> None:
    first = (await here.post(BODY, headers={"x-webhook-id": "h1"})).json()
    again = (await here.post(BODY, headers={"x-webhook-id": "h2"})).json()
    assert again == {"status": "duplicate", "id": first["id"]}
    assert [event.delivery_key for event in await here.events()] == ["evt_1"]


async def test_an_unsigned_id_occupies_no_other_delivery(here: Here) -> None:
    captured = b'{"event":"assets.updated","body":["1"]}'
    genuine = b'{"event":"assets.updated","body":["2"]}'
    for body, said in ((captured, "accepted"), (genuine, "accepted"), (genuine, "duplicate")):
        answer = await here.post(body, headers={"x-webhook-id": "coming"})
        assert answer.json()["status"] == said
    keys = [event.delivery_key for event in await here.events()]
    assert len(set(keys)) == 2
    assert all(key.startswith("coming#") for key in keys)


async def test_the_same_id_at_two_apps_is_two_events(here: Here) -> None:
    await here.post(BODY)
    headers = signed_headers("evt_1", BODY, STANDARD_SECRET, now=utcnow())
    other = await here.http.post("/webhooks/standard", content=BODY, headers=headers)
    assert other.json()["status"] == "accepted"
    assert {event.app for event in await here.events()} == {"default", "standard"}


async def test_of_many_at_once_with_one_id_one_is_accepted(here: Here) -> None:
    answers = await asyncio.gather(*(here.post(BODY) for _ in range(40)))
    said = [answer.json() for answer in answers]
    assert sorted(life["status"] for life in said) == ["accepted"] + ["duplicate"] * 39
    [event] = await here.events()
    assert {row["id"] for row in said} == {event.id}


async def test_a_content_without_id_merges_with_what_nobody_has_claimed(here: Here) -> None:
    body = {"event": "assets.updated", "body": ["0900"]}
    answers = await asyncio.gather(*(here.post(body, "/webhooks/default/c1") for _ in range(10)))
    assert (
        sorted(response.json()["status"] for response in answers)
        == ["accepted"] + ["duplicate"] * 9
    )
    other_path = await here.post(body, "/webhooks/default/c2")
    assert other_path.json()["status"] == "accepted"
    assert len(await here.events()) == 2


async def test_hex_and_base64_of_any_of_the_secrets_count(here: Here) -> None:
    for secret, encoding, prefix in product(
        ("s3cret", "older"), ("hex", "base64"), ("", "sha256=")
    ):
        body = json.dumps({"id": secret + encoding + prefix}).encode()
        digest = hmac.digest(secret.encode(), body, "sha256")
        text = digest.hex() if encoding == "hex" else base64.b64encode(digest).decode()
        headers = {"x-webhook-signature": prefix + text}
        answer = await here.http.post("/webhooks/default", content=body, headers=headers)
        assert answer.status_code == 200
    assert len(await here.events()) == 8


async def test_standard_webhooks_are_verified_where_the_app_says_so(here: Here) -> None:
    good = signed_headers("msg_1", BODY, STANDARD_SECRET, now=utcnow())
    vector = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    for headers, body, status, said in (
        (good, BODY, 200, "accepted"),
        (good, BODY, 200, "duplicate"),
        ({**good, "webhook-id": "msg_2"}, BODY, 401, "bad_signature"),
        ({**good, "webhook-signature": "v1,a,b"}, BODY, 401, "malformed_signature"),
        ({**good, "webhook-timestamp": "soon"}, BODY, 401, "bad_timestamp"),
        (vector, b'{"test": 2432232314}', 401, "stale_timestamp"),
        ({"x-webhook-signature": signature(BODY)}, BODY, 401, "no_signature"),
    ):
        answer = await here.http.post("/webhooks/standard", content=body, headers=headers)
        assert answer.status_code == status
        assert said in answer.json().values()
    [event] = await here.events()
    assert event.delivery_key == "msg_1"


async def test_a_forged_delivery_is_refused_and_does_not_occupy_its_id(here: Here) -> None:
    for headers, cause in (
        ({"x-webhook-signature": "0" * 64}, "bad_signature"),
        ({"x-webhook-signature": "v1,a,b"}, "malformed_signature"),
        ({"x-webhook-signature": ""}, "no_signature"),
        ({}, "no_signature"),
        ({"x-webhook-signature": signature(BODY + b" ")}, "bad_signature"),
    ):
        answer = await here.http.post("/webhooks/default", content=BODY, headers=headers)
        assert (answer.status_code, answer.json()) == (401, {"error": cause})
    assert await here.events() == []
    assert (await here.post(BODY)).json()["status"] == "accepted"
    # Known by now, and refused all the same: a forger learns nothing of ids.
    forged = await here.post(BODY, secret="guessed")
    assert forged.status_code == 401


async def test_an_app_without_secrets_takes_nothing(here: Here) -> None:
    answer = await here.post(BODY, "/webhooks/bare", secret="")
    assert (answer.status_code, answer.json()) == (401, {"error": "no_secret"})


async def test_what_is_no_route_says_so(here: Here) -> None:
    for method, path, status in (
        ("POST", "/webhooks/nobody", 404),
        ("POST", "/webhooks/", 404),
        ("POST", "/webhooks", 404),
        ("POST", "/webhooks/default/c1/more", 404),
        ("POST", "/webhooks/%00%ff", 404),
        ("POST", "/webhooks/default%2f..%2f", 404),
        ("GET", "/webhooks/default", 405),
        ("PUT", "/webhooks/default", 405),
    ):
        answer = await here.http.request(method, path, content=b"x")
        assert answer.status_code == status, path


SENSELESS = [
    (b"", "unknown"),
    (b"\xff\xfe\x00 not text", "unknown"),
    (b"null", "unknown"),
    (b"[" * 20_000 + b"]" * 20_000, "unknown"),
    (b'{"a":' * 9_000 + b"1" + b"}" * 9_000, "unknown"),
    (b'{"event":"moon.rising","id":"\\u0000"}', "unknown"),
    (b'{"id": 1e400}', "unknown"),
    (b'{"event":"assets.updated","timestamp":"9999-12-31T23:59:59-23:59"}', "record.updated"),
]


async def test_a_genuine_body_that_makes_no_sense_is_stored_and_answered(here: Here) -> None:
    for body, _ in SENSELESS:
        answer = await here.post(body)
        assert (answer.status_code, answer.json()["status"]) == (200, "accepted")
    events = await here.events()
    assert [(event.body, event.kind) for event in events] == SENSELESS
    assert all(event.event_at is None or event.event_at <= event.received_at for event in events)


async def test_hostile_ids_are_hashed_and_still_identify(here: Here) -> None:
    for identity in ("x" * 10_240, "a\r\nSet-Cookie: b=c", "a\0b", "\u202egnp.exe", "a\u2028b"):
        said = [
            (await here.post({"id": identity, "connection_id": identity})).json() for _ in range(2)
        ]
        assert [one["status"] for one in said] == ["accepted", "duplicate"]
    for event in await here.events():
        assert event.delivery_key.startswith("sha256:")
        assert (event.connection_ref or "").startswith("sha256:")
    long = await here.post({"id": 5}, headers={"x-webhook-id": "y" * 10_240})
    assert long.headers.keys() == {"date", "content-type", "content-length"}


async def test_answers_are_counted_for_prometheus(here: Here) -> None:
    await here.post(BODY, secret="guessed")
    await here.post(BODY)
    await here.post(BODY)
    await here.http.post("/webhooks/nobody", content=b"")
    metrics = (await here.http.get("/metrics")).text
    assert "linekeeper_up 1.0" in metrics
    assert 'linekeeper_deliveries_total{answer="accepted",app="default"}' in metrics
    assert 'linekeeper_deliveries_total{answer="bad_signature",app="default"}' in metrics
    assert 'linekeeper_events_pending{app="default"} 1.0' in metrics
    assert 'linekeeper_events_unrouted{app="standard"} 0.0' in metrics
    [oldest] = re.findall(r'linekeeper_events_oldest_seconds{app="default"} (\S+)', metrics)
    assert 0 <= float(oldest) < 60
    assert (await here.http.get("/readyz")).status_code == 200


async def test_a_flood_of_bad_signatures_is_a_count_and_a_sample(
    here: Here,
) -> None:
    tally = Tally()
    for number in range(20_000):
        tally.count("default", "bad_signature")
        tally.sample(
            "default",
            "bad_signature",
            path=b"/webhooks/default",
            headers=[
                (b"x-webhook-signature", b"%064d" % number),
                (b"authorization", b"Bearer hidden"),
                (b"X-Auth", b"hidden"),
                (b"x-hidden", b"1"),
                (b"User-Agent", b"some\x00body"),
                *((b"x-%d" % n, b"v") for n in range(100)),
            ],
            size=number,
            at=utcnow(),
        )
    await tally.flush(here.rt.store, now=utcnow())
    await tally.flush(here.rt.store, now=utcnow())
    async with here.rt.store.read() as session:
        [count] = list(await session.scalars(select(DeliveryCount)))
        samples = list(await session.scalars(select(RejectedDelivery)))
    assert (count.app, count.cause, count.count) == ("default", "bad_signature", 20_000)
    assert len(samples) == 20
    for sample in samples:
        assert "hidden" not in str(sample.headers)
        assert [*sample.headers] == ["user-agent"]
    assert max(sample.size for sample in samples) == 19_999


async def test_a_clock_that_jumps_changes_no_answer(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = utcnow()
    for number, days in enumerate((0, 400, -400, 0)):
        then = began + timedelta(days=days)
        monkeypatch.setattr("linekeeper.receiver.webhooks.utcnow", lambda then=then: then)
        body = {"id": f"j{number}", "timestamp": began.timestamp()}
        said = (await here.post(body)).json()
        assert said["status"] == "accepted"
        assert (await here.post({"id": f"j{number}"})).json()["status"] == "duplicate"
    assert len(await here.events()) == 4
