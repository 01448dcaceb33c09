"""The expiry horizon (MISSION B4): tokens renewed well before they end; what can't be, announced.

A minted token has no horizon: it is minted again at use, so it is neither listed nor announced.
"""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.customers.naming import label
from linekeeper.groups import task_group
from linekeeper.makini import MakiniError
from linekeeper.runtime import Runtime
from linekeeper.store.modes import UNSAID, Chosen, app_of
from linekeeper.store.tables import Connection, Credential, Customer
from linekeeper.sweep.batch import probe_batch
from linekeeper.tokens.caller import Caller

WITHIN = timedelta(days=7)
HORIZON = timedelta(days=31)
_AT_ONCE = 10


@dataclass(frozen=True, slots=True)
class Expiry:
    """A token of a customer's login and when it ends (UTC)."""

    connection_id: str
    app: str
    label: str
    health: str
    time_zone: str
    expires_at: datetime
    refreshable: bool
    refused: bool = False
    """Makini has refused to renew it: only a new login will."""
    customer_id: str | None = None
    system: str = ""
    notified: int = 0
    """How often the customer was asked to renew this login before its end."""
    chosen: Chosen = UNSAID
    """What the rules say of its connection's mode."""


@dataclass(slots=True)
class RenewalRound:
    """What a round of renewing gave."""

    renewed: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    """Why Makini could not be asked, by name; tried again."""
    ending: list[Expiry] = field(default_factory=list)
    """What nothing of ours renews."""
    retry_after: float = 0.0


async def horizon(rt: Runtime, *, until: datetime) -> list[Expiry]:
    """The tokens that end by `until`, the soonest first; of the apps of the settings alone."""
    apps = (await rt.configuration()).apps
    async with rt.store.read() as session:
        rows = await session.execute(
            select(
                Connection,
                col(Customer.name),
                col(Customer.time_zone),
                col(Credential.expires_at),
                col(Credential.refresh_token).is_not(None),
                col(Credential.refused_at).is_not(None),
                col(Credential.ending_notified),
            )
            .join(Credential, col(Credential.connection_id) == col(Connection.id))
            .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
            .where(
                col(Connection.app).in_(apps),
                col(Connection.setup) != "disconnected",
                col(Connection.custody) == "owned",
                col(Credential.minted).is_(False),
                col(Credential.expires_at) <= until,
            )
            .order_by(col(Credential.expires_at), col(Connection.id))
        )
        return [
            Expiry(
                connection_id=row[0].id,
                app=row[0].app,
                label=label(row[1], row[0].provider, row[0].name, row[0].told_apart_by),
                health=row[0].health,
                time_zone=row[2] or "UTC",
                expires_at=row[3],
                refreshable=bool(row[4]),
                refused=bool(row[5]),
                customer_id=row[0].customer_id,
                system=row[0].provider or row[0].name,
                notified=row[6],
                chosen=Chosen(row[0].mode, row[0].notify_customers),
            )
            for row in rows
            if row[3] is not None
        ]


async def renew_ending(rt: Runtime, *, now: datetime) -> RenewalRound:
    """Renew every token that ends within `WITHIN`; each connection once, whoever else tries.

    In `observe` nothing is renewed: those tokens are in `ending`. A connection whose customer has
    to log in again is left to that.
    """
    apps = (await rt.configuration()).apps
    result = RenewalRound()
    gate = asyncio.Semaphore(_AT_ONCE)

    async def renew_expiring(expiry: Expiry) -> None:
        app = apps.get(expiry.app)
        if app is None or not app_of(app, expiry.chosen).manages:
            result.ending.append(expiry)
            return
        async with gate:
            try:
                renewed = await _renew(rt, expiry)
            except MakiniError as error:
                result.failed[expiry.label] = str(error)
                result.retry_after = max(result.retry_after, error.retry_after or 0.0)
                return
        if renewed:
            result.renewed.append(expiry.label)
        else:
            result.ending.append(expiry)

    due = [
        expiry
        for expiry in await horizon(rt, until=now + WITHIN)
        if expiry.health != "reauthorization_required"
    ]
    async with task_group() as group:
        for expiry in due:
            group.create_task(renew_expiring(expiry))
    return result


async def _renew(rt: Runtime, expiry: Expiry) -> bool:
    async with rt.store.read() as session:
        connection = await session.get_one(Connection, expiry.connection_id)
    app = await rt.app(expiry.app)
    caller = await Caller.of(rt, app, connection)
    renewed = await caller.renewed()
    if caller.is_unknown_there:
        # Not a login that ends, but perhaps a connection that is gone: the probe finds out.
        await probe_batch(rt, app, [expiry.connection_id], started=utcnow(), last_try=True)
    return renewed is not None
