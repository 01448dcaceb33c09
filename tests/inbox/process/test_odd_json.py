"""JSON that is valid and that few readers of JSON take: none of it ends as an error of ours."""

import logging

import orjson
import pytest

from linekeeper.clock import utcnow
from linekeeper.exact import read
from linekeeper.outbox.forward import event_message
from tests.inbox.process.stage import Stage
from tests.inbox.process.test_process_records import changed, nested

DIGITS = b"7" * 5_000


async def test_a_number_of_thousands_of_digits_is_read_and_holds_up_nobody(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    [connection, *_] = stage.connections
    [key, *_] = await changed(stage, connection, "eam/assets")
    beside = b'{"event":"assets.updated","id":"n1","body":["%b"],"size":%b,"most":1e999}'
    with caplog.at_level(logging.WARNING):
        first = await stage.deliver(beside % (key.encode(), DIGITS), to=connection)
        second = await stage.deliver(
            {"id": "n2", "event": "assets.updated", "body": [key]}, to=connection
        )
        await stage.process()
    for receipt in (first, second):
        event = await stage.event(receipt.id)
        assert (event.status, event.kind) == ("processed", "record.updated"), event.error
    assert caplog.records == []
    assert {row.key for row in await stage.records()} == {key}


async def test_as_a_key_it_is_taken_as_it_is_written(stage: Stage) -> None:
    [connection, *_] = stage.connections
    receipt = await stage.deliver(
        b'{"event":"assets.updated","id":"n1","body":[%b]}' % DIGITS, to=connection
    )
    await stage.process()
    event = await stage.event(receipt.id)
    assert event.kind == "record.updated"
    assert "Traceback" not in (event.error or "")
    assert event.status in ("processed", "dead"), event.error
    assert read(b'{"body":[%b]}' % DIGITS)["body"] == [DIGITS.decode()]
    assert read(b'{"a":18446744073709551615,"b":-5,"c":1e999}')["a"] == 18446744073709551615


async def test_keys_of_twenty_digits_and_more_are_each_their_own(stage: Stage) -> None:
    [connection, *_] = stage.connections
    keys = (b"90000000000000000000", b"90000000000000000001", b"123456789012345678901234567890")
    receipt = await stage.deliver(
        b'{"event":"assets.updated","id":"n1","body":[%b]}' % b",".join(keys), to=connection
    )
    await stage.process()
    await stage.forward()
    assert (await stage.event(receipt.id)).kind == "record.updated"
    [(_, body)] = stage.product.taken
    assert body["data"]["keys"] == [key.decode() for key in keys]


async def test_what_is_nested_too_deep_holds_up_nobody_behind_it(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    [connection, *_] = stage.connections
    [key, *_] = await changed(stage, connection, "eam/assets")
    with caplog.at_level(logging.ERROR):
        receipts = [
            await stage.deliver(nested(depth), to=connection) for depth in (300, 900, 9_999)
        ]
        good = await stage.deliver(
            {"id": "g", "event": "assets.updated", "body": [key]}, to=connection
        )
        await stage.process()
        await stage.forward()
    assert [(await stage.event(one.id)).status for one in receipts] == [
        "processed", "processed", "dead",
    ]  # fmt: skip
    assert (await stage.event(good.id)).status == "processed"
    assert caplog.records == []
    assert {row.status for row in await stage.forwards()} == {"sent"}


def test_a_byte_order_mark_is_not_handed_on_in_the_middle_of_an_envelope() -> None:
    body = b'\xef\xbb\xbf{"event":"assets.updated","body":["1"]}'
    envelope = event_message(
        kind="record.updated",
        at=utcnow(),
        connection_id="c",
        makini_key="k",
        entity="eam/assets",
        body=body,
    )
    assert orjson.loads(envelope)["data"]["original"] == {"event": "assets.updated", "body": ["1"]}
