"""The answers to webhooks as they are on the wire, in whatever way the request came."""

import asyncio
import json
import re

import pytest

from tests.receiver.conftest import Here, head, signature

WHOLE = re.compile(
    rb"HTTP/1\.1 200 OK\r\ndate: [^\r]+\r\n"
    rb"content-type: application/json\r\ncontent-length: (\d+)\r\n(connection: close\r\n)?\r\n"
    rb'(\{"status":"(?:accepted|duplicate)","id":"[0-9a-f-]{36}"\})'
)


def request(number: int, *headers: str) -> tuple[bytes, bytes]:
    body = json.dumps({"id": f"evt_{number}", "event": "assets.updated", "body": ["a"]}).encode()
    signed = f"X-Webhook-Signature: {signature(body)}"
    return head(signed, f"Content-Length: {len(body)}", *headers), body


@pytest.mark.parametrize("pieces", ["one", "two", "many"])
async def test_a_pipeline_is_answered_in_order_and_then_closed(here: Here, pieces: str) -> None:
    parts = [request(1), request(2), request(1), request(3, "Connection: close")]
    sent = b"".join(head + body for head, body in parts)
    cut = {"one": len(sent), "two": len(sent) // 2, "many": 40}[pieces]
    answer = await here.raw(*(sent[start : start + cut] for start in range(0, len(sent), cut)))
    found = WHOLE.findall(answer)
    assert b"".join(match[0] for match in WHOLE.finditer(answer)) == answer
    assert [int(length) == len(body) for length, _, body in found] == [True] * 4
    assert [bool(close) for _, close, _ in found] == [False, False, False, True]
    said = [json.loads(body) for _, _, body in found]
    assert [one["status"] for one in said] == ["accepted", "accepted", "duplicate", "accepted"]
    assert said[2]["id"] == said[0]["id"]
    assert {event.id for event in await here.events()} == {one["id"] for one in said}


async def test_who_speaks_http_1_0_or_waits_for_a_go_ahead_is_answered(here: Here) -> None:
    old, body = request(1)
    answer = await here.raw(old.replace(b" HTTP/1.1\r\n", b" HTTP/1.0\r\n"), body)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"connection: close\r\n" in answer
    careful, body = request(2, "Expect: 100-continue", "Connection: close")
    answer = await here.raw(careful, body)
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 1
    assert len(await here.events()) == 2


async def test_of_a_batch_in_which_some_repeat_each_is_told_what_became_of_it(here: Here) -> None:
    known = [request(number) for number in range(5)]
    for _, body in known:
        assert (await here.post(body)).json()["status"] == "accepted"
    bodies = [request(number % 25)[1] for number in range(200)]
    answers = await asyncio.gather(*(here.post(body) for body in bodies))
    by_body: dict[bytes, list[tuple[str, str]]] = {}
    for body, answer in zip(bodies, answers, strict=True):
        by_body.setdefault(body, []).append((answer.json()["status"], answer.json()["id"]))
    assert {len({identifier for _, identifier in said}) for said in by_body.values()} == {1}
    accepted = [sum(status == "accepted" for status, _ in said) for said in by_body.values()]
    assert accepted == [0] * 5 + [1] * 20
    assert len(await here.events()) == 25
