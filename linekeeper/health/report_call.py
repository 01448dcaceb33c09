"""The product's own calls to Makini as a hint (MISSION C1): Makini's status says what is true.

What a product reports is recorded, and never judged by itself: its token may be an old one, and
Makini answers data calls from its own copy for a while after a login is lost. A report of trouble
makes the connection suspect and has it probed at once; the probe decides. If we die before it, the
next sweep probes whatever is suspect.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import update
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.runtime import Runtime
from linekeeper.store import new_id
from linekeeper.store.tables import Connection, Observation
from linekeeper.sweep.batch import probe_batch

SOURCE = "product"
PROBE_APART = timedelta(seconds=10)
"""A connection probed within this is not probed again for one more report."""


@dataclass(frozen=True, slots=True)
class Call:
    """How a call of the product went; `at` is aware UTC, never in the future."""

    status: int
    at: datetime
    code: str | None = None
    request_id: str | None = None

    @property
    def is_trouble(self) -> bool:
        """Whether it casts doubt on the connection: a refused login, or no answer.

        A call limit or a request that was wrong says nothing of it.
        """
        return self.status in (401, 403) or self.status >= 500 or self.status == 0


async def record_call(rt: Runtime, connection_id: str, call: Call) -> None:
    """Write the report down; trouble makes the connection suspect."""
    async with rt.store.write() as session:
        session.add(
            Observation(
                id=new_id(),
                connection_id=connection_id,
                at=call.at,
                source=SOURCE,
                outcome=f"reported_{call.status}",
                applied=False,
                code=call.code or (str(call.status) if call.is_trouble else None),
                message="reported by the product" if call.is_trouble else None,
                request_id=call.request_id,
            )
        )
        if call.is_trouble:
            await session.execute(
                update(Connection)
                .where(col(Connection.id) == connection_id)
                .values(suspect=True, next_probe_at=utcnow())
            )


async def follow_up(rt: Runtime, app: str, connection_id: str) -> None:
    """Probe the connection now, unless somebody just did; its incident follows from that."""
    await probe_batch(
        rt,
        await rt.app(app),
        [connection_id],
        started=utcnow() - PROBE_APART,
        last_try=True,
    )
