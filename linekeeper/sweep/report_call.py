"""The product's own calls to Makini as evidence (MISSION C1).

One refused call may have had an old token. In mode `manage` a report of trouble has the connection
probed at once, and a read with its own token decides. In `observe` nothing may be read: there
several refused calls in a row contradict whatever Makini's list or status says. If we die before
the probe, the next sweep probes whatever is suspect.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.config import AppConfig
from linekeeper.health.evidence import Observation as Judgeable
from linekeeper.health.evidence import Outcome, load
from linekeeper.health.service import observe
from linekeeper.incidents.conclude import conclude
from linekeeper.runtime import Runtime
from linekeeper.spending import Purpose, spends_on
from linekeeper.store import new_id
from linekeeper.store.modes import app_of, load_chosen
from linekeeper.store.tables import Connection, Observation
from linekeeper.sweep.batch import probe_batch

SOURCE = "product"
REFUSED = "AUTHENTICATION_FAILED"
"""Makini's code for a refused login, whatever HTTP status it comes with."""
LIMITED = 429
YIELD = timedelta(minutes=1)
"""Makini's limits are per minute (MAKINI "Data API")."""
TROUBLE_APART, GOOD_APART = timedelta(minutes=1), timedelta(hours=1)
"""A report that says the same as the one before is kept again after so long: a product may report
every call that it makes."""


@dataclass(frozen=True, slots=True)
class Call:
    """How a call of the product went; `at` is aware UTC, never in the future."""

    status: int
    at: datetime
    code: str | None = None
    request_id: str | None = None

    @property
    def is_refused_login(self) -> bool:
        """Whether the login was refused: the status says so, or the code in the body."""
        code = (self.code or "").strip().upper()
        return self.status == 401 or (self.status >= 400 and code == REFUSED)

    @property
    def is_trouble(self) -> bool:
        """Whether it casts doubt on the connection: a refused login, or no answer.

        A call limit or a request that was wrong says nothing of it.
        """
        failed = self.status == 403 or self.status >= 500 or self.status == 0
        return failed or self.is_refused_login

    def observation(self, *, unread: bool) -> Judgeable | None:
        """What it says of the connection by itself; None if only a probe can show it."""
        if self.is_refused_login:
            outcome = Outcome.doubted
        elif unread and 200 <= self.status < 300:
            outcome = Outcome.answered
        elif unread and self.is_trouble and self.status != 403:
            outcome = Outcome.missed
        else:
            return None
        return Judgeable(
            at=self.at,
            source=SOURCE,
            outcome=outcome,
            unread=unread,
            code=self.code or str(self.status),
            message="reported by the product",
            request_id=self.request_id,
        )


async def record_call(rt: Runtime, app: AppConfig, connection_id: str, call: Call) -> None:
    """Write the report down and judge it; trouble makes the connection suspect.

    Where the product met a call limit we yield: whether that is one of the connection or of the
    account isn't public, so our own calls for that connection pause, all others of the app go at
    half the pace for a minute, and where several connections are limited at once they pause too.
    """
    await rt.budget.count_reported(app.name)
    if call.status == LIMITED:
        await _yield_to_product(rt, app, connection_id)
    configuration, now = await rt.configuration(), utcnow()
    async with rt.store.read() as session:
        chosen = await load_chosen(session, [connection_id])
    app = app_of(app, chosen.get(connection_id))
    seen = call.observation(unread=not app.manages)
    async with rt.store.write() as session:
        if seen is not None and seen.outcome is Outcome.answered:
            # A good call says something only where there was a doubt, and most are good.
            row = await session.scalar(
                select(col(Connection.judged)).where(col(Connection.id) == connection_id)
            )
            judged = load(row or {})
            seen = seen if judged.refusals or judged.lost_by or judged.misses else None
        changes = []
        if seen is not None:
            changes = await observe(
                rt.store,
                session,
                [(connection_id, seen)],
                policy=configuration.policy,
                now=now,
            )
        await _keep(session, connection_id, call)
        if call.is_trouble:
            await session.execute(
                update(Connection)
                .where(col(Connection.id) == connection_id)
                .values(suspect=True, next_probe_at=now)
            )
        if changes:
            await conclude(rt.store, session, policy=configuration.policy, now=now)


async def _keep(session: AsyncSession, connection_id: str, call: Call) -> None:
    """Write the report down, unless it says what the one before has said just now.

    How many there were is in the count of calls (`linekeeper.spending`).
    """
    outcome = f"reported_{call.status}"
    code = call.code or (str(call.status) if call.is_trouble else None)
    last = (await session.execute(_LAST, {"connection": connection_id})).first()
    apart = TROUBLE_APART if call.is_trouble else GOOD_APART
    is_same = last is not None and (last.outcome, last.code) == (outcome, code)
    if last is not None and is_same and abs(call.at - last.at) < apart:
        return
    session.add(
        Observation(
            id=new_id(),
            connection_id=connection_id,
            at=call.at,
            source=SOURCE,
            outcome=outcome,
            applied=False,
            code=code,
            message="reported by the product" if call.is_trouble else None,
            request_id=call.request_id,
        )
    )


_LAST = (
    select(col(Observation.outcome), col(Observation.code), col(Observation.at))
    .where(
        col(Observation.connection_id) == bindparam("connection"),
        col(Observation.source) == SOURCE,
        col(Observation.outcome).startswith("reported_"),
    )
    .order_by(col(Observation.at).desc(), col(Observation.id).desc())
    .limit(1)
)


@spends_on(Purpose.product)
async def _yield_to_product(rt: Runtime, app: AppConfig, connection_id: str) -> None:
    async with rt.store.read() as session:
        connection = await session.get(Connection, connection_id)
    if connection is None:
        return
    ref = app.ref_of(connection.makini_key, connection.makini_id)
    await rt.budget.penalise(app.name, utcnow() + YIELD, connection=ref)
    await rt.budget.yield_calls(app.name, app.calls_a_minute)


async def follow_up(rt: Runtime, app: str, connection_id: str, *, since: datetime) -> None:
    """Probe the connection unless it was since the report; its incident follows from that."""
    await probe_batch(rt, await rt.app(app), [connection_id], started=since, last_try=True)
