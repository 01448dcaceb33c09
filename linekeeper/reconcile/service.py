"""Reconciling: many connections side by side, shared with whoever else does the same."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sqlalchemy.exc import SQLAlchemyError

from linekeeper.clock import monotonic, utcnow
from linekeeper.config import AppConfig
from linekeeper.groups import task_group
from linekeeper.health.login_check import failing_last
from linekeeper.health.scope import make_suspect
from linekeeper.makini import NO_TOKEN, ErrorKind, ErrorScope, MakiniError
from linekeeper.reconcile.accounting import Counts
from linekeeper.reconcile.deleting import apply_agreed
from linekeeper.reconcile.doubt import (
    are_all_refused,
    doubt_connection,
    is_login_refused,
    observe_lost_login,
)
from linekeeper.reconcile.due import Pass, PollOrder, due_in, is_entity_due
from linekeeper.reconcile.failed import is_call_limit, note_failure
from linekeeper.reconcile.known import Known, read_known
from linekeeper.reconcile.marks import load_marks
from linekeeper.reconcile.pages import Sleep
from linekeeper.reconcile.policy import POLICY
from linekeeper.reconcile.poll import read_entity
from linekeeper.reconcile.reading import EntityReading, ReadQuestion
from linekeeper.reconcile.succession import complete
from linekeeper.reconcile.target import PollTarget, load_targets
from linekeeper.runtime import Runtime
from linekeeper.store import new_id
from linekeeper.store.leases import READS
from linekeeper.store.many_leases import ManyLeases, holding_many
from linekeeper.store.tables import Watermark
from linekeeper.sums import add_up

log = logging.getLogger(__name__)

SIDE_BY_SIDE = 16
"""Connections read at once by one worker."""
LONG: Pass = "full"
"""Listing one whole may take hours."""
OTHERS_SECONDS = (0.1, 2.0)
"""Between the first two looks at what other workers hold, and at most."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An entity that could not be read."""

    connection_id: str
    label: str
    entity: str
    message: str
    retryable: bool
    app: str
    has_no_token: bool = False
    is_of_app: bool = False
    """The app's own credentials or limit are what failed: it says nothing of the connection."""


@dataclass(slots=True)
class ReconcileRun:
    """What a run, or a part of one, did."""

    connections: set[str] = field(default_factory=set)
    readings: int = 0
    full: int = 0
    records: int = 0
    written: int = 0
    held_back: int = 0
    broken_off: int = 0
    """Whole listings that ended too early."""
    circuits: int = 0
    """Connections left alone because their circuit is open."""
    counts: Counts = field(default_factory=Counts)
    failures: list[Failure] = field(default_factory=list)

    def add(self, other: "ReconcileRun") -> None:
        """Add what another part did."""
        circuits = max(self.circuits, other.circuits)
        add_up(self, other)
        self.circuits = circuits

    def took(self, target: PollTarget, reading: EntityReading) -> None:
        """Add how reading one entity went."""
        self.connections.add(target.id)
        self.broken_off += reading.is_broken_off
        if reading.outcome == "failed" and reading.error is not None:
            self.failures.append(
                Failure(
                    target.id,
                    target.label,
                    reading.entity,
                    reading.error.brief,
                    reading.error.retryable,
                    target.app.name,
                    has_no_token=reading.error.code == NO_TOKEN,
                    is_of_app=reading.scope is ErrorScope.app,
                )
            )
            return
        self.readings += 1
        self.full += reading.full
        self.records += reading.records
        self.written += reading.written
        self.held_back += reading.held_back
        self.counts += reading.counts


async def read_pass(
    rt: Runtime,
    app: AppConfig,
    order: PollOrder,
    which: Pass,
    *,
    run: ReconcileRun | None = None,
    sleep: Sleep = asyncio.sleep,
) -> ReconcileRun:
    """Read what is due in this pass, with every other worker that does so.

    Returns when nothing is left that isn't read or was tried here, also by others: what a worker
    that died had claimed is taken over. A failure of one connection is in the result and holds up
    nobody else. A `run` given is added to as it goes, for who wants to watch.
    """
    run = ReconcileRun() if run is None else run
    pause, longest = OTHERS_SECONDS
    owner = f"{rt.owner}:{new_id()}"
    tried: set[str] = set()
    running: dict[asyncio.Task[ReconcileRun], str] = {}
    looked = 0.0
    leasing = holding_many(rt.store, READS, owner, purpose=which)
    async with leasing as leases, task_group() as group:
        while True:
            wanted, run.circuits = await due_in(rt, app, order, which)
            looked = monotonic()
            queue = _in_shard(
                [
                    connection_id
                    for connection_id in wanted
                    if connection_id not in tried and connection_id not in leases.held
                ],
                order,
            )
            if not queue and not running:
                return run
            advanced = False
            while queue:
                free = SIDE_BY_SIDE - len(running)
                if free:
                    portion, queue = queue[:free], queue[free:]
                    mine = await leases.take(portion)
                    targets = await _still_due(rt, app, order, which, mine)
                    for target in targets:
                        task = group.create_task(_read(rt, target, order, which, sleep))
                        running[task] = target.id
                        leases.cover(target.id, task)
                    if len(targets) < len(mine):  # others have read the rest, and may again
                        await leases.release(sorted({*mine} - {target.id for target in targets}))
                    advanced = advanced or bool(mine)
                if len(running) >= SIDE_BY_SIDE:
                    await _collect(run, running, tried, leases)
            if running:
                await _collect(run, running, tried, leases)
                while running and monotonic() - looked < longest:  # a look is at the whole fleet
                    await _collect(run, running, tried, leases)
            elif not advanced:
                if which != LONG:  # only who wants to list them whole, too, waits for that
                    tried |= await leases.taken_for(LONG, wanted)
                await sleep(pause)
                pause = min(2 * pause, longest)


async def _collect(
    run: ReconcileRun,
    running: dict[asyncio.Task[ReconcileRun], str],
    tried: set[str],
    leases: ManyLeases,
) -> None:
    """Wait until some have been read; their leases are given back.

    What another run took over meanwhile was cancelled, and is left to it.
    """
    done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    finished = [running.pop(task) for task in done]
    for task in done:
        if not task.cancelled():
            run.add(task.result())
    tried.update(finished)
    await leases.release(finished)


async def _still_due(
    rt: Runtime, app: AppConfig, order: PollOrder, which: Pass, ids: Sequence[str]
) -> list[PollTarget]:
    """Those of `ids` nobody else has read since they were looked up."""
    if not ids:
        return []
    narrowed = replace(order, connections=ids, shard=None)
    wanted, _ = await due_in(rt, app, narrowed, which)
    due = set(wanted)
    targets = await load_targets(rt, app, ids)
    return [target for target in targets if target.id in due]


def _in_shard(ids: list[str], order: PollOrder) -> list[str]:
    """The same ids; each shard begins at another place, so that they seldom meet."""
    if not order.shard or len(ids) < 2:
        return ids
    start = sum(order.shard.encode()) * len(ids) // 7 % len(ids)
    return ids[start:] + ids[:start]


async def _read(
    rt: Runtime, target: PollTarget, order: PollOrder, which: Pass, sleep: Sleep
) -> ReconcileRun:
    """Read the entities of one connection that this pass is about.

    Each fails alone; only a failure of the whole connection, or of the app, leaves the others for
    the next run.
    """
    run = ReconcileRun()
    known = await read_known(rt, target)
    if known.has_agreed:
        await apply_agreed(rt.store, target.app, target.id, target.makini_key, now=utcnow())
    for entity in known.planned:
        await complete(rt, target, entity, run_at=order.started, shard=order.shard)
    if known.has_agreed or known.planned:
        known = await read_known(rt, target)
    caller = known.caller
    readings = await _read_entities(rt, target, known, order, which, sleep=sleep)
    is_lost = are_all_refused(readings) and not caller.is_replaced_perhaps
    if is_lost and await is_login_refused(rt, target, caller, readings):
        # The status says that the login is well, every single read that it isn't: reads are right.
        try:
            is_newer = await caller.renewed() is not None
        except MakiniError:  # a newer token may be all that is missing
            await make_suspect(rt.store, target.id)
        else:
            if is_newer:
                known = replace(known, marks=await load_marks(rt.store, target.id))
                readings = await _read_entities(
                    rt, target, known, order, which, sleep=sleep, again=True
                )
            refusal = readings[0].error if are_all_refused(readings) else None
            if refusal is not None:
                await observe_lost_login(rt, target, refusal)
    for reading in readings:
        run.took(target, reading)
    return run


async def _read_entities(
    rt: Runtime,
    target: PollTarget,
    known: Known,
    order: PollOrder,
    which: Pass,
    *,
    sleep: Sleep,
    again: bool = False,
) -> list[EntityReading]:
    """Read what is due; `again`: at once, though it has just failed."""
    caller, marks = known.caller, known.marks
    window = order.window if which == "backfill" else None
    readings: list[EntityReading] = []
    due = [
        entity
        for entity in failing_last(order.of_connection(target), marks)
        if is_entity_due(marks.get(entity), which, order, target.cadence_of(entity), again=again)
    ]
    for entity in due:
        mark = marks.get(entity)
        question = ReadQuestion(
            run_at=order.started,
            full=which == "full",
            since=window.since if window else None,
            # Who asks for everything twice has waited as long as they think right.
            apart=timedelta(0) if order.full else POLICY.confirm,
            shard=order.shard,
        )
        try:
            reading = await read_entity(
                rt, target, caller, entity, question, mark=mark, sleep=sleep
            )
        except (SQLAlchemyError, OSError):
            raise  # ours, not this connection's
        except Exception as error:
            # Whatever one system sends, it holds up nobody else.
            about = {"connection": target.id, "app": target.app.name}
            log.exception("%s: reading %s failed", target.label, entity, extra=about)
            reading = await _strange(rt, target, entity, mark, error, now=order.started)
        readings.append(reading)
        if reading.error is not None and reading.scope is not ErrorScope.entity:
            if reading.scope is ErrorScope.connection:
                await doubt_connection(rt, target, caller, reading.error)
            if is_call_limit(reading.error, reading.scope):
                for left in due[len(readings) :]:
                    where, scope = (rt.store, target.id, left, marks.get(left)), reading.scope
                    now = order.started
                    await note_failure(*where, reading.error, scope=scope, now=now, is_left=True)
            break
    return readings


async def _strange(
    rt: Runtime,
    target: PollTarget,
    entity: str,
    mark: Watermark | None,
    error: Exception,
    *,
    now: datetime,
) -> EntityReading:
    """A failure nobody foresaw, as one of this entity."""
    strange = MakiniError(
        ErrorKind.malformed,
        f"{type(error).__name__}: {error}"[:300],
        app=target.app.name,
        connection=target.ref,
    )
    scope = ErrorScope.entity
    await note_failure(rt.store, target.id, entity, mark, strange, scope=scope, now=now)
    return EntityReading(entity, outcome="failed", error=strange)
