"""What a run did, or all that share its work did together, whichever of them did it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import and_, case, func, select
from sqlmodel import col

from linekeeper.reconcile.accounting import Counts
from linekeeper.reconcile.causes import OUTAGE
from linekeeper.store import Store
from linekeeper.store.tables import Deletion, Drift, Watermark

Whose = Literal["run", "shards", "everyone"]


@dataclass(frozen=True, slots=True)
class Together:
    """What one run did, or all together since it began."""

    connections: int
    """How many connections had an entity read to the end since."""
    counts: Counts
    held: int
    """Records that look deleted and wait for a decision."""
    caught_up: int = 0
    """Of what was found: changes of an outage of ours that no webhook had brought."""

    @property
    def summary(self) -> str:
        """Return a few words for the name of a run."""
        said = [f"{self.connections:,} read"]
        if self.counts.recovered:
            said.append(f"{self.counts.recovered:,} backfilled")
        if self.counts.late:
            said.append(f"{self.counts.late:,} late")
        if self.held:
            said.append(f"{self.held:,} deletions wait for you")
        return ", ".join(said)


async def together(
    store: Store,
    started: datetime,
    *,
    connections: Sequence[str] | None = None,
    whose: Whose = "everyone",
) -> Together:
    """What was done since `started`, of all connections or only these.

    What is found counts where it was found: by the `run` that began then and no other; by all
    `shards` together, and not by what runs beside them, such as one of some connections or a
    backfill; or by `everyone`. What is read counts whoever read it, since nobody else has to any
    more.
    """
    drift = [col(Drift.run_at) == started if whose == "run" else col(Drift.run_at) >= started]
    if whose == "shards":
        drift.append(col(Drift.shard).is_not(None))
    marks = [col(Watermark.polled_at) >= started, col(Watermark.offered)]
    held = [col(Deletion.status) == "proposed"]
    if connections is not None:
        drift.append(col(Drift.connection_id).in_(connections))
        marks.append(col(Watermark.connection_id).in_(connections))
        held.append(col(Deletion.connection_id).in_(connections))
    async with store.read() as session:
        row = (
            await session.execute(
                select(
                    *(
                        func.coalesce(func.sum(column), 0)
                        for column in (
                            col(Drift.missed), col(Drift.late), col(Drift.mismatched),
                            col(Drift.deleted), col(Drift.webhooks_seen), col(Drift.late_seconds),
                            case(
                                (
                                    col(Drift.cause) == OUTAGE,
                                    col(Drift.missed) + col(Drift.mismatched),
                                ),
                                else_=0,
                            ),
                        )
                    )
                ).where(and_(*drift))
            )
        ).one()  # fmt: skip
        read = await session.scalar(
            select(func.count(col(Watermark.connection_id).distinct())).where(and_(*marks))
        )
        waiting = await session.scalar(
            select(func.coalesce(func.sum(col(Deletion.records)), 0)).where(and_(*held))
        )
    counts = Counts(
        missed=int(row[0]),
        late=int(row[1]),
        mismatched=int(row[2]),
        deleted=int(row[3]),
        webhooks_seen=int(row[4]),
        late_seconds=float(row[5]),
    )
    return Together(read or 0, counts, int(waiting or 0), int(row[6]))
