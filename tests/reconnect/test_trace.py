"""The way of one webhook to Slack is short: few modules, few write transactions."""

import hashlib
import hmac
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import orjson
import pytest
from pydantic import SecretStr
from sqlalchemy import delete
from sqlmodel import col

import linekeeper
from linekeeper.clock import utcnow
from linekeeper.consumer.connection_events import process_connection_events
from linekeeper.outbox.senders.slack import deliver_due
from linekeeper.store import engine
from linekeeper.store.tables import Credential
from tests.inbox.process.stage import about
from tests.reconnect.conftest import House
from tests.reconnect.test_ask import Opened
from tests.reconnect.test_kills import with_slack

ROOT = Path(linekeeper.__file__).parent
MODULES, WRITES = 45, 10
"""The aim is 30 modules; this bound only ever falls. It is of a test that runs alone: after others
a cache may be warm, and one module less runs."""
BESIDE = {"store/sqlite.py", "store/session.py", "store/pool.py", "groups.py"}
"""What stands in the place of a driver's, of SQLAlchemy's or of asyncio's own is not read by who
follows the way."""
STEPS = {
    "receiver/app.py",
    "inbox/verify.py",
    "inbox/intake.py",
    "consumer/connection_events.py",
    "inbox/claim.py",
    "inbox/routing.py",
    "health/judge.py",
    "incidents/conclude.py",
    "incidents/lifecycle.py",
    "outbox/senders/slack.py",
    "notify/policy.py",
    "outbox/dispatcher.py",
    "notify/renderer.py",
    "outbox/sender.py",
}
"""One module a step, whose order is that of docs/architecture.md."""


@dataclass
class Trace:
    """What ran."""

    modules: dict[str, None] = field(default_factory=dict)
    """In the order in which they first ran."""
    writes: int = 0
    """Transactions that write, beside the one of the receiver, which uses the driver directly."""


@contextmanager
def traced() -> Iterator[Trace]:
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
            trace.modules.setdefault(str(path.relative_to(ROOT)))

    def begun(connection: Any) -> None:
        trace.writes += 1
        begin_writing(connection)

    begin_writing = engine.begin_writing
    engine.begin_writing = begun
    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        yield trace
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
        engine.begin_writing = begin_writing


async def test_a_webhook_reaches_slack_on_a_short_way(open_house: Opened) -> None:
    here = await open_house(makini_webhook_secrets=(SecretStr("s3cret"),))
    await with_slack(here)
    [connection, *_] = await here.connections()
    await without_token(here, connection.id)
    body = orjson.dumps(about(connection, "connection.auth_required", utcnow()))
    headers = {"x-webhook-signature": hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()}
    rt = here.rt
    await rt.configuration()  # as any process that runs; parsing it is no webhook's way
    with traced() as trace:
        answer = await here.http.post("/webhooks/default", content=body, headers=headers)
        assert answer.status_code == 200
        while await process_connection_events(rt):
            pass
        await deliver_due(rt.store, await rt.configuration(), rt.owner)
    assert here.fleet.world.slack.snapshot()
    assert trace.writes + 1 <= WRITES
    assert len(trace.modules.keys() - BESIDE) <= MODULES, sorted(trace.modules)
    ran = list(trace.modules)
    named = [name for name in journey("A webhook to Slack") if name != "postgres_writer.py"]
    assert set(named) - {"inbox/sqlite_writer.py"} <= set(ran)
    assert [name for name in ran if name in STEPS] == [name for name in named if name in STEPS]


async def without_token(house: House, connection_id: str) -> None:
    """Nothing could contradict what Makini says of it, so that nothing is asked before."""
    async with house.rt.store.write() as session:
        await session.execute(
            delete(Credential).where(col(Credential.connection_id) == connection_id)
        )


@pytest.mark.parametrize(
    "title", ["A webhook to Slack", "A sweep to a red task", "A lost login to a closed case"]
)
def test_the_journeys_of_the_architecture_name_what_there_is(title: str) -> None:
    names = journey(title)
    assert len(names) > 10
    for name in set(names) - {"postgres_writer.py"}:
        above = ROOT.parent if name.startswith(("flows/", "tasks/")) else ROOT
        assert (above / name).is_file(), name


def journey(title: str) -> list[str]:
    """The modules that docs/architecture.md names for a journey, in order."""
    page = (ROOT.parent / "docs" / "architecture.md").read_text()
    part = page.split(f"### {title}\n")[1].split("\n### ")[0].split("\n## ")[0]
    return re.findall(r"`([a-z_/]+\.py)`", part)
