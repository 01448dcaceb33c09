"""A process that does one step of a reconnect and is killed as it commits to a certain table.

`python -m tests.reconnect.dying STEP TABLE JSON`: the step runs against the database and the Makini
of the environment. It dies by SIGKILL right before the first commit after a statement that writes
`TABLE`, or right after it where the name ends in `+`; `'sent'` is the first commit that settles
outbox rows. Without a table it lives.
"""

import asyncio
import json
import os
import re
import signal
import sys
from datetime import datetime
from typing import Any

from sqlalchemy import event

from linekeeper.access.callback import finish
from linekeeper.clock import utcnow
from linekeeper.consumer.connection_events import process_connection_events
from linekeeper.outbox.senders.reconnect import advance_due_cases
from linekeeper.outbox.senders.slack import deliver_due
from linekeeper.reconcile.backfill import reconcile_window
from linekeeper.reconnect import process
from linekeeper.reconnect.counts import keep_counts
from linekeeper.reconnect.disconnect import disconnect
from linekeeper.reconnect.process import FormAnswer
from linekeeper.reconnect.watch import watch
from linekeeper.runtime import Runtime
from linekeeper.tokens.renew import renew
from linekeeper.tokens.stored import load_tokens
from tests.delivering import deliver_mail


def die_at(rt: Runtime, table: str) -> None:
    """Arrange for the end."""
    after = table.endswith("+")
    name = table.rstrip("+")
    writes = re.compile(rf"(WITH\b.*?)?(INSERT|UPDATE|DELETE)\b.*?\b{name}\b", re.I | re.S)
    engine = rt.store.engine.sync_engine
    seen = committed = False

    @event.listens_for(engine, "before_cursor_execute")
    def executing(_c: Any, _cursor: Any, statement: str, values: Any, *_rest: Any) -> None:
        nonlocal seen
        if committed:
            os.kill(os.getpid(), signal.SIGKILL)
        settles = name == "'sent'" and statement.startswith("UPDATE outbox") and "sent" in values
        seen = seen or settles or bool(writes.match(statement.lstrip()))

    @event.listens_for(engine, "commit")
    def committing(_connection: Any) -> None:
        nonlocal committed
        if seen and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        committed = seen


async def step(rt: Runtime, name: str, given: dict[str, Any]) -> None:
    """One of the steps, as consumer, receiver and the run do them."""
    configuration = await rt.configuration()
    incident, connection = given.get("incident", ""), given.get("connection", "")
    match name:
        case "webhook":
            await process_connection_events(rt)
        case "take_up":
            await process.take_up(rt, incident, "a-run", now=utcnow())
        case "answer":
            said = FormAnswer("Petra", note="They call back")
            await process.take_answer(rt, incident, 1, said, now=utcnow())
        case "watch":
            await watch(rt, now=datetime.fromisoformat(given["now"]))
        case "verify":
            await process.verify_login(rt, connection)
        case "back_fill":
            since, until = (datetime.fromisoformat(given[name]) for name in ("since", "until"))
            counts = await reconcile_window(rt, connection, since)
            await keep_counts(rt, incident, connection, counts, since=since, until=until)
        case "close":
            await process.close(rt, incident, "reconnected", now=utcnow())
        case "disconnect":
            await disconnect(rt, connection, confirm=given["key"], by="Petra")
        case "renew":
            app = await rt.app("default")
            async with rt.store.read() as session:
                tokens = await load_tokens(rt.store, session, [given["connection"]])
            await renew(
                rt.store,
                rt.makini(app),
                app,
                connection_id=given["connection"],
                makini_ref=given["key"],
                refused=tokens.get(given["connection"]),
                owner=rt.owner,
            )
        case "ask":
            await advance_due_cases(rt)
        case "mail":
            await deliver_mail(rt)
        case "slack":
            await deliver_due(rt.store, configuration, rt.owner)
        case "callback":
            await finish(rt, code=given["code"], state=given["state"], denied=False, now=utcnow())


async def main(name: str, table: str, given: str) -> None:
    async with Runtime.open() as rt:
        await rt.configuration()
        if table:
            die_at(rt, table)
        await step(rt, name, json.loads(given))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
