"""Writing a configuration, finding how far it is verified, settling the gate it proves."""

from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.customers.find import Named
from linekeeper.customers.naming import label
from linekeeper.customers.setup import ESTABLISHED
from linekeeper.implementation import work
from linekeeper.outbox.waking import wake_run
from linekeeper.reconcile.named import why_not_read
from linekeeper.reconcile.run import reconcile
from linekeeper.reconcile.service import ReconcileRun
from linekeeper.runtime import Runtime
from linekeeper.store.connection_settings import load_settings
from linekeeper.store.tables import (
    Audit,
    Connection,
    ConnectionSetting,
    Customer,
    Watermark,
    WebhookEvent,
    WorkflowConfiguration,
)
from linekeeper.workflow_configuration.decide import (
    ConfigurationStanding,
    Step,
    WantedConfiguration,
    is_worth_a_look,
)

LOOK_AGAIN = timedelta(minutes=15)


async def configure(
    rt: Runtime,
    connection: Named,
    wanted: WantedConfiguration,
    *,
    by: str,
    run_id: str,
    for_gate: bool = False,
    now: datetime,
) -> None:
    """Write the settings of `connection`; `run_id` verifies them. Another run's are replaced.

    That one, if it waits, is resumed, and ends. The same run again, resumed, changes nothing.
    """
    async with rt.store.write() as session:
        # Two workers may have taken one run: one of them waits for the other.
        await session.get(Connection, connection.id, with_for_update={"key_share": True})
        known = await session.get(WorkflowConfiguration, connection.id)
        if known is not None and known.run_id == run_id:
            return
        if not for_gate:
            await work.take_by_hand(
                rt.store,
                session,
                "workflow-configuration",
                run_id,
                connection_id=connection.id,
                now=now,
            )
        if known is not None and known.run_id is not None and known.waits_for is not None:
            await wake_run(rt.store, session, known.run_id, f"replaced:{run_id}", now=now)
        await session.execute(
            delete(ConnectionSetting).where(col(ConnectionSetting.connection_id) == connection.id)
        )
        session.add_all(
            ConnectionSetting(
                connection_id=connection.id,
                entity=entity,
                cadence_minutes=wanted.cadence_minutes,
                keep_bodies=wanted.keep_bodies,
                forward_to=wanted.forward_to,
            )
            for entity in wanted.entities
        )
        await session.merge(
            WorkflowConfiguration(
                connection_id=connection.id, configured_at=now, configured_by=by, run_id=run_id
            )
        )
        detail = {
            "entities": list(wanted.entities),
            "cadence_minutes": wanted.cadence_minutes,
            "forward_to": wanted.forward_to,
        }
        session.add(
            Audit(at=now, by=by, action="connection.configured", subject=connection.id,
                  detail=detail)
        )  # fmt: skip


async def load_standing(rt: Runtime, connection_id: str) -> ConfigurationStanding:
    async with rt.store.read() as session:
        return await _standing(rt, session, connection_id)


async def _standing(
    rt: Runtime, session: AsyncSession, connection_id: str
) -> ConfigurationStanding:
    row = await session.get_one(WorkflowConfiguration, connection_id)
    connection = await session.get_one(Connection, connection_id)
    customer = await session.scalar(
        select(col(Customer.name)).where(col(Customer.id) == connection.customer_id)
    )
    settings = (await load_settings(session, [connection_id])).get(connection_id, {})
    marks = await session.scalars(
        select(Watermark).where(col(Watermark.connection_id) == connection_id)
    )
    delivered = await session.scalars(
        select(col(WebhookEvent.entity))
        .where(
            col(WebhookEvent.connection_id) == connection_id,
            col(WebhookEvent.status) == "processed",
            col(WebhookEvent.entity).is_not(None),
        )
        .distinct()
    )
    return ConfigurationStanding(
        row=row,
        label=label(customer, connection.provider, connection.name, connection.told_apart_by),
        settings=list(settings.values()),
        marks={mark.entity: mark for mark in marks},
        delivered={str(entity) for entity in delivered},
        obstacle=await why_not_read(rt, connection_id),
    )


async def read_connection(rt: Runtime, connection_id: str) -> ReconcileRun:
    """Read what the connection is configured for, whatever its cadence."""
    return await reconcile(rt, connections=[connection_id])


async def note_step(
    rt: Runtime, connection_id: str, done: Step, *, evidence: str = "", now: datetime
) -> None:
    """Keep that `done` has been verified, and what shows it; once.

    Nothing is kept where the connection was replaced meanwhile: its successor's is verified.
    """
    async with rt.store.write() as session:
        row = await session.get(WorkflowConfiguration, connection_id)
        if row is None:
            return
        if done == "first_read":
            row.read_at, row.evidence = row.read_at or now, row.evidence or evidence
        elif done == "webhooks":
            row.webhooks_at = row.webhooks_at or now
        elif done == "reconcile":
            row.reconciled_at = row.reconciled_at or now
        else:
            row.verified_at = row.verified_at or now
            await work.note_end(session, row.run_id or "")


async def note_waiting(
    rt: Runtime, connection_id: str, waits_for: Step | None, *, now: datetime
) -> int:
    """Keep what the run waits for from now on; returns the number of the answer it waits for."""
    async with rt.store.write() as session:
        row = await session.get_one(WorkflowConfiguration, connection_id)
        row.waits_for = waits_for
        row.look_at = now + LOOK_AGAIN
        return row.answers


async def take_answer(
    rt: Runtime,
    connection_id: str,
    number: int,
    *,
    accept: bool,
    by: str,
    note: str,
    now: datetime,
) -> None:
    """Take answer `number` of the form, sent at `now`; each counts once."""
    async with rt.store.write() as session:
        row = await session.get_one(WorkflowConfiguration, connection_id)
        if row.answers != number:
            return
        row.answers += 1
        row.waits_for = None
        taken = accept and bool(by.strip())
        row.webhooks_accepted = row.webhooks_accepted or taken
        if taken or note.strip():
            action = f"connection.{'webhooks_accepted' if taken else 'configuration_answered'}"
            session.add(
                Audit(at=now, by=by.strip() or "workflow-configuration form", action=action,
                      subject=connection_id, detail={"note": note[:500]})
            )  # fmt: skip


async def take_over(
    rt: Runtime, connection_id: str, run_id: str, *, lost: str | None = None
) -> bool:
    """Go on with the verification that a lost run began; False without one.

    That is the run `lost`; where none is given, any run of the same gate.
    """
    async with rt.store.write() as session:
        row = await session.get(WorkflowConfiguration, connection_id)
        if row is None or row.verified_at is not None:
            return False
        if lost is not None and row.run_id not in (lost, run_id):
            return False
        if row.run_id != run_id:
            await work.hand_over(session, row.run_id or "", run_id)
            row.run_id, row.waits_for = run_id, None
        return True


async def connection_of_run(session: AsyncSession, run_id: str) -> str | None:
    """The connection that the run configures already, whatever it is called by now."""
    if not run_id:
        return None
    return await session.scalar(
        select(col(WorkflowConfiguration.connection_id)).where(
            col(WorkflowConfiguration.run_id) == run_id
        )
    )


async def watch(rt: Runtime, *, now: datetime) -> int:
    """Resume the runs that have something to do; how many.

    A run whose connection was disconnected ends with that: it is resumed once.
    """
    async with rt.store.read() as session:
        waiting = await session.execute(
            select(col(WorkflowConfiguration.connection_id), col(Connection.setup))
            .join(Connection, col(Connection.id) == col(WorkflowConfiguration.connection_id))
            .where(
                col(WorkflowConfiguration.waits_for).is_not(None),
                col(WorkflowConfiguration.verified_at).is_(None),
            )
        )
        setups = {row[0]: row[1] for row in waiting}
    resumed = 0
    for connection_id, setup in setups.items():
        standing = await load_standing(rt, connection_id)
        if not is_worth_a_look(standing, now=now):
            continue
        row = standing.row
        turn = f"{row.answers}:{int(now.timestamp() // 60)}"
        async with rt.store.write() as session:
            await wake_run(rt.store, session, str(row.run_id), turn, now=now)
            if setup not in ESTABLISHED:
                (await session.get_one(WorkflowConfiguration, connection_id)).waits_for = None
        resumed += 1
    return resumed
