"""What is asked of one entity, and how reading it went."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from linekeeper.makini import ErrorScope, MakiniError
from linekeeper.reconcile.accounting import Counts
from linekeeper.reconcile.policy import POLICY


@dataclass(frozen=True, slots=True)
class ReadQuestion:
    """What to read of an entity, and why."""

    run_at: datetime
    full: bool = False
    """List everything, whatever the watermark says."""
    since: datetime | None = None
    """Read from here on at least, even where the watermark is later."""
    apart: timedelta = POLICY.confirm
    """How long after a listing that lacks a record another one has to lack it, too."""
    cause: str | None = None
    """`backfill`: what it finds is put down to that (see `drift.cause`)."""
    shard: str | None = None
    """The shard of the run that asks, where it shares its work with others (see `drift.shard`)."""


@dataclass(slots=True)
class EntityReading:
    """How reading one entity went."""

    entity: str
    outcome: str = "read"
    """`read`, `not_offered` or `failed`."""
    full: bool = False
    compared: bool = False
    """What came was compared with what had been known: a first listing is not."""
    records: int = 0
    written: int = 0
    counts: Counts = field(default_factory=Counts)
    error: MakiniError | None = None
    scope: ErrorScope = ErrorScope.entity
    """What the error is evidence about."""
    is_broken_off: bool = False
    """Listed whole, it ended too early; then what changed was read."""
    held_back: int = 0
    """Records that look deleted but are too many to believe it."""
