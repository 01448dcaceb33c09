"""One connection as it is read."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import bindparam, func, select
from sqlmodel import col

from linekeeper.config import AppConfig
from linekeeper.customers.naming import label
from linekeeper.health.scope import DataCaller
from linekeeper.reconcile.deletes import is_first_sync
from linekeeper.reconcile.policy import POLICY
from linekeeper.runtime import Runtime
from linekeeper.store import Store
from linekeeper.store.connection_settings import Settings, cadence_of, configured, load_settings
from linekeeper.store.tables import Connection, Customer, WebhookTrust
from linekeeper.tokens.stored import load_tokens

_SYNC = select(
    col(Connection.setup), col(Connection.sync_status), col(Connection.created_at)
).where(col(Connection.id) == bindparam("connection"))


@dataclass(frozen=True, slots=True)
class PollTarget:
    """A connection to read."""

    id: str
    app: AppConfig
    """Its app, with the entities and bodies that this connection was configured to."""
    ref: str
    """What Makini's routes call it."""
    makini_key: str
    label: str
    """`Customer · System`."""
    cadence: timedelta
    """How long its entities may go unread, but for those with a cadence of their own."""
    ordering_keys: Sequence[str]
    """Those its deliveries wait in until it is known whose they are."""
    settings: Settings = field(default_factory=dict)
    """What was configured for each of its entities; empty: nothing was."""

    async def is_in_first_sync(self, store: Store, *, now: datetime) -> bool:
        """Whether Makini says so now: what was listed before counts no more."""
        async with store.read() as session:
            row = (await session.execute(_SYNC, {"connection": self.id})).one()
        return is_first_sync(*row, now=now)

    def cadence_of(self, entity: str) -> timedelta:
        """How long `entity` may go unread."""
        return cadence_of(self.settings, entity, self.cadence)


async def load_targets(rt: Runtime, app: AppConfig, ids: Sequence[str]) -> list[PollTarget]:
    """Those of `ids` that belong to `app`, in no order."""
    async with rt.store.read() as session:
        rows = (
            await session.execute(
                select(
                    col(Connection.id),
                    col(Connection.makini_key),
                    col(Connection.makini_id),
                    col(Connection.name),
                    col(Connection.provider),
                    col(Connection.told_apart_by),
                    col(Customer.name),
                    func.coalesce(col(Customer.critical), False),
                    func.coalesce(col(WebhookTrust.state), "unknown"),
                    col(Connection.mode),
                    col(Connection.notify_customers),
                )
                .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
                .outerjoin(WebhookTrust, col(WebhookTrust.connection_id) == col(Connection.id))
                .where(col(Connection.id).in_(ids), col(Connection.app) == app.name)
            )
        ).all()
        settings = await load_settings(session, [row[0] for row in rows])
    return [
        PollTarget(
            id=identifier,
            app=configured(app.as_chosen(*chosen), settings.get(identifier)),
            ref=app.ref_of(key, makini_id),
            makini_key=key,
            label=label(customer, provider, name, told_apart_by),
            cadence=POLICY.cadence(trust, critical=bool(critical)),
            ordering_keys=[f"{app.name}/{ref}" for ref in (identifier, key, makini_id) if ref],
            settings=settings.get(identifier, {}),
        )
        for (
            identifier, key, makini_id, name, provider, told_apart_by, customer, critical, trust,
            *chosen,
        ) in rows
    ]  # fmt: skip


async def caller_for(rt: Runtime, target: PollTarget) -> DataCaller:
    """What reads the records of `target`, with the token it has now."""
    async with rt.store.read() as session:
        tokens = await load_tokens(rt.store, session, [target.id])
    return DataCaller(rt, target.app, target.id, target.ref, tokens.get(target.id))
