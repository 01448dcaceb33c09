"""What changed while a connection could not be read: the backfill after a reconnect."""

from datetime import datetime

from linekeeper.clock import utcnow
from linekeeper.makini import MakiniError
from linekeeper.reconcile.marks import load_marks
from linekeeper.reconcile.poll import read_entity
from linekeeper.reconcile.reading import ReadQuestion
from linekeeper.reconcile.service import ReconcileRun
from linekeeper.reconcile.target import caller_for, load_targets
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Connection


async def reconcile_window(rt: Runtime, connection_id: str, since: datetime) -> dict[str, int]:
    """Read what changed at a connection from `since` on, for the backfill after a reconnect.

    Returns counts: `records` read, changes `recovered` and `webhooks_seen`, entities `compared`
    with what had been known of them, those read for the first time (`new`), `failed` ones. Raises
    the first `MakiniError` if no entity could be read. Safe to repeat.
    """
    async with rt.store.read() as session:
        row = await session.get(Connection, connection_id)
    if row is None:
        raise LookupError(f"there is no connection {connection_id}")
    app = await rt.app(row.app)
    (target,) = await load_targets(rt, app, [connection_id])
    started, run, caller = utcnow(), ReconcileRun(), await caller_for(rt, target)
    marks = await load_marks(rt.store, target.id)
    first: MakiniError | None = None
    compared = new = 0
    for entity in target.app.entities:
        question = ReadQuestion(run_at=started, since=since, cause="backfill")
        mark = marks.get(entity)
        reading = await read_entity(rt, target, caller, entity, question, mark=mark)
        run.took(target, reading)
        compared += reading.outcome == "read" and reading.compared
        new += reading.outcome == "read" and not reading.compared
        first = first or reading.error
    if first is not None and not run.readings:
        raise first
    return {
        "records": run.records,
        "recovered": run.counts.recovered,
        "webhooks_seen": run.counts.webhooks_seen,
        "compared": compared,
        "new": new,
        "failed": len(run.failures),
    }
