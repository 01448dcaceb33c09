"""Renewals whose end was never stored: the process was killed, or Makini's answer didn't come.

Makini kills a pair when it refreshes it, and says what the new one is only once (MAKINI "Link"). A
process that dies in between loses the new pair: nothing brings it back. What can be had is that it
is known: the intent is stored before the refresh, and one status call afterwards shows whether the
old pair lives. Where it doesn't, a new token is minted, and where that is refused the customer is
asked, once, as after any lost login.
"""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import bindparam, select
from sqlmodel import col

from linekeeper.health.evidence import Health
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Audit, Connection, Credential
from linekeeper.store.types import UtcDateTime
from linekeeper.sweep.batch import probe_batch
from linekeeper.tokens.lost_renewal import note_refreshing
from linekeeper.tokens.stored import note_renewing

AFTER = timedelta(minutes=2)
"""Longer than a renewal's lease: nobody works on it any more."""
_BATCH = 100
_log = logging.getLogger(__name__)


_INTERRUPTED = (
    select(col(Connection.app), col(Connection.id))
    .join(Credential, col(Credential.connection_id) == col(Connection.id))
    .where(
        col(Credential.renewing_since) <= bindparam("before", type_=UtcDateTime),
        col(Connection.app).in_(bindparam("apps", expanding=True)),
    )
    # Who was asked in vain comes last the next time.
    .order_by(col(Connection.last_checked_at).nulls_first(), col(Credential.renewing_since))
    .limit(_BATCH)
)


async def verify_interrupted(rt: Runtime, *, now: datetime) -> int:
    """Look at every connection whose renewal was interrupted; returns how many are settled.

    One that can't be asked now is asked again the next time, and holds up none of the others.
    """
    apps = (await rt.configuration()).apps
    async with rt.store.read() as session:
        rows = await session.execute(_INTERRUPTED, {"before": now - AFTER, "apps": sorted(apps)})
        by_app: dict[str, list[str]] = {}
        for name, connection_id in rows:
            by_app.setdefault(name, []).append(connection_id)
    settled = 0
    for name, connections in by_app.items():
        await probe_batch(rt, apps[name], connections, started=now, last_try=True)
        settled += await _settle(rt, connections, now)
    return settled


async def _settle(rt: Runtime, connections: Sequence[str], now: datetime) -> int:
    """Say how it came out for those that could be asked."""
    settled = 0
    async with rt.store.write() as session:
        rows = (
            await session.execute(
                select(Connection, Credential)
                .outerjoin(Credential, col(Credential.connection_id) == col(Connection.id))
                .where(col(Connection.id).in_(connections))
            )
        ).all()
        for connection, pair in rows:
            asked = connection.last_checked_at is not None and connection.last_checked_at >= now
            if not asked or connection.suspect or connection.health == Health.unreachable.value:
                continue
            if connection.health == Health.reauthorization_required.value:
                outcome = "its tokens are lost, and the customer has to log in again"
                await note_renewing(session, connection.id, None)
            elif pair is not None and pair.renewing_since is None:
                outcome = "its tokens were lost, and a new one was minted"
            else:
                outcome = "its tokens work"
                await note_refreshing(session, connection.id, None, None)
            _log.warning("the renewal of %s was interrupted: %s", connection.id, outcome)
            session.add(
                Audit(
                    at=now,
                    by="linekeeper",
                    action="token.renewal_interrupted",
                    subject=connection.id,
                    detail={"outcome": outcome},
                )
            )
            settled += 1
    return settled
