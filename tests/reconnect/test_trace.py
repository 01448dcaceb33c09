"""The way of one webhook to Slack is short: few modules, few write transactions."""

import hashlib
import hmac
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import orjson
from pydantic import SecretStr
from sqlalchemy import event

import linekeeper
from linekeeper.clock import utcnow
from linekeeper.consumer.connection_events import process_connection_events
from linekeeper.outbox.senders.slack import deliver_due
from linekeeper.store import Store
from tests.inbox.process.stage import about
from tests.reconnect.test_ask import Opened
from tests.reconnect.test_kills import with_slack

ROOT = Path(linekeeper.__file__).parent
MODULES, WRITES = 72, 10
"""The aim is 30 modules; this bound only ever falls."""


@dataclass
class Trace:
    """What ran."""

    modules: set[str] = field(default_factory=set)
    writes: int = 0
    """Transactions that write, beside the one of the receiver, which uses the driver directly."""


@contextmanager
def traced(store: Store) -> Iterator[Trace]:
    """Notes the modules of the core in which a function runs, and transactions that write."""
    trace = Trace()
    seen: set[CodeType] = set()

    def profile(frame: FrameType, what: str, _: object) -> None:
        code = frame.f_code
        if what != "call" or code in seen:
            return
        seen.add(code)
        path = Path(code.co_filename)
        if path.is_relative_to(ROOT) and code.co_name != "<module>":
            trace.modules.add(str(path.relative_to(ROOT)))

    def committed(connection: Any) -> None:
        if connection.get_execution_options().get("linekeeper_write"):
            trace.writes += 1

    engine = store.engine.sync_engine
    event.listen(engine, "commit", committed)
    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        yield trace
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
        event.remove(engine, "commit", committed)


async def test_a_webhook_reaches_slack_on_a_short_way(open_house: Opened) -> None:
    here = await open_house(makini_webhook_secrets=(SecretStr("s3cret"),))
    with_slack(here)
    [connection, *_] = await here.connections()
    body = orjson.dumps(about(connection, "connection.auth_required", utcnow()))
    headers = {"x-webhook-signature": hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()}
    rt = here.rt
    with traced(here.store) as trace:
        answer = await here.http.post("/webhooks/default", content=body, headers=headers)
        assert answer.status_code == 200
        while await process_connection_events(rt):
            pass
        await deliver_due(rt.store, await rt.configuration(), rt.owner)
    assert here.fleet.world.slack.snapshot()
    assert trace.writes + 1 <= WRITES
    assert len(trace.modules) <= MODULES, sorted(trace.modules)
