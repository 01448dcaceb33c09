"""One connection that takes another's place, and how far its records have come over."""

from datetime import datetime

from sqlalchemy import Index
from sqlmodel import Field, SQLModel

from linekeeper.store.types import Id, identifier, optional_time, reference, time


class Succession(SQLModel, table=True):
    """An entity of a connection that took the place of another, and how far it has its records."""

    __table_args__ = (
        Index("succession_predecessor", "predecessor_id"),
        Index("succession_status", "status"),
    )

    connection_id: str = Field(primary_key=True, foreign_key="connection.id", sa_type=Id)
    entity: str = Field(primary_key=True)
    predecessor_id: str = reference("connection.id")
    status: str = "pending"
    """`pending` (its first complete listing is waited for), `planned` (the steps are being taken)
    or `done`. Until then nothing of the entity is in the feed."""
    created_at: datetime = time()
    listed_at: datetime | None = optional_time()
    """Not written any more (migration 0061 says when it goes)."""
    done_at: datetime | None = optional_time()
    rule: str | None = None
    """What most records were matched by: `same_keys`, `key_suffix` or `natural_keys`."""
    comparable: bool = True
    """Whether `record.plain_hash` says if contents changed; else only the source's time does."""
    records: int = 0
    """Live records the predecessor had."""
    matched: int = 0
    rekeyed: int = 0
    updated: int = 0
    inserted: int = 0
    absent: int = 0
    """Not listed any more: deleted once a second listing agrees."""
    ambiguous: int = 0
    """Records of the predecessor that may be one of several; they wait for a person."""
    unmatched: int = 0
    """Records of the predecessor of which too little is known to match them."""


class SuccessionStep(SQLModel, table=True):
    """One step from the predecessor's records to the successor's; gone once it is taken."""

    __tablename__ = "succession_step"
    __table_args__ = (
        Index("succession_step_of", "connection_id", "entity", "op", "id"),
        Index("succession_step_new", "connection_id", "entity", "new_key"),
    )

    id: str = identifier()
    connection_id: str = reference("connection.id")
    entity: str
    op: str
    """`match` (old and new are one record), `deleted` (the new one is listed as that), `insert`,
    `absent`, `unmatched`, or `ambiguous`: one side of a group that waits for a person."""
    old_key: str | None = None
    new_key: str | None = None
    group_key: str | None = None
    """The group of `ambiguous` ones: those of one group have the same."""
