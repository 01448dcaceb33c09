"""One delivery's id, from the sender through the logs of the running parts to the product."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from linekeeper.clock import utcnow
from linekeeper.customers.find import NotFound
from linekeeper.explain.service import explain
from tests.explain.planting import some_key
from tests.inbox.process.product import SECRET as FORWARD_SECRET
from tests.inbox.process.stage import Stage
from tests.receiver.conftest import signature
from tests.receiver.processes import NOBODY, free_port, start

EVENT = "evt_follow-me"


async def test_one_id_leads_through_receiver_consumer_and_product(
    stage: Stage, tmp_path: Path
) -> None:
    which, port, settings = stage.connections[0], free_port(), stage.rt.settings
    key = await some_key(stage, which)
    extra = {
        "LINEKEEPER_LOG_FORMAT": "json",
        "LINEKEEPER_MAKINI_API_URL": settings.makini_api_url or "",
        "LINEKEEPER_MAKINI_CLIENT_ID": "sandbox-client",
        "LINEKEEPER_MAKINI_CLIENT_SECRET": "sandbox-secret",
        "LINEKEEPER_MAKINI_MODE": "manage",
        "LINEKEEPER_MAKINI_PER_MINUTE": "0",
        "LINEKEEPER_FORWARD_URL": settings.forward_url or "",
        "LINEKEEPER_FORWARD_SECRET": FORWARD_SECRET,
        "LINEKEEPER_PREFECT_PORT": NOBODY,
    }
    parts = [
        await start(name, settings, tmp_path / f"{name}.log", port=port, extra=extra)
        for name in ("receiver", "consumer")
    ]
    try:
        body = orjson.dumps({"id": EVENT, "event": "assets.updated", "body": [key]})
        async with httpx.AsyncClient() as client:
            answer = await client.post(
                f"http://127.0.0.1:{port}/webhooks/default/{which.makini_key}",
                content=body,
                headers={"X-Webhook-Signature": signature(body)},
            )
        assert answer.status_code == 200, answer.text
        ours = answer.json()["id"]
        deadline = time.monotonic() + 60
        while ours not in [taken for taken, _ in stage.product.taken]:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        while not _hops(tmp_path / "consumer.log", ours).keys() >= {"forwarded", "processed"}:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
    finally:
        await asyncio.gather(*(part.kill() for part in parts))
    accepted = _hops(tmp_path / "receiver.log", ours)["accepted"]
    assert accepted["deliveries"][accepted["events"].index(ours)] == EVENT
    passed = _hops(tmp_path / "consumer.log", ours)
    assert list(passed) == ["claimed", "processed", "forwarded"]
    forwarded = passed["forwarded"]
    assert forwarded["answers"][forwarded["events"].index(ours)] == 200
    for asked in (ours, EVENT):
        found = await explain(stage.rt.store, await stage.rt.configuration(), asked, now=utcnow())
        assert found.ids["event"] == ours


async def test_a_delivery_is_found_by_the_id_that_its_sender_shows(stage: Stage) -> None:
    """Also where it is kept in another form: the id of an unsigned header, and a long one."""
    which = stage.connections[0]
    made = []
    for number in range(2):  # a header is not signed, so this may be another delivery
        body = {"event": "assets.updated", "body": [f"of-header-{number}"]}
        made.append(await stage.deliver(body, to=which, headers={b"x-webhook-id": b"50%_of it"}))
    long = "e" * 650
    made.append(
        await stage.deliver({"id": long, "event": "assets.updated", "body": ["of-long"]}, to=which)
    )
    await stage.process()
    for asked, event in (("50%_of it", made[1].id), (long, made[2].id)):
        found = await explain(stage.rt.store, await stage.rt.configuration(), asked, now=utcnow())
        assert found.ids["event"] == event
    with pytest.raises(NotFound):
        await explain(stage.rt.store, await stage.rt.configuration(), "50%", now=utcnow())


def _hops(log: Path, event: str) -> dict[str, Any]:
    """The lines of a log that name the event, by hop."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return {line["hop"]: line for line in lines if event in line.get("events", ())}
