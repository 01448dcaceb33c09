"""What `explain` needs recorded besides: attempts to forward, and reads of the change feed.

Both are written in groups, beside what is written anyway, and pruned by housekeeping.
"""

from datetime import datetime

from sqlalchemy import BigInteger, Column, Index
from sqlmodel import Field, SQLModel

from linekeeper.store.types import identifier, reference, time


class ForwardAttempt(SQLModel, table=True):
    """One attempt to post one message to the product, and the product's answer."""

    __tablename__ = "forward_attempt"
    __table_args__ = (
        Index("forward_attempt_of", "message_id"),
        Index("forward_attempt_at", "at"),
    )

    id: str = identifier()
    message_id: str
    """The `webhook-id` it was posted with: the id of an event (`-` and the connection's id follow
    where it is about several) or of a change."""
    at: datetime = time()
    status: int | None = None
    """The product's HTTP status; none where nothing answered."""
    error: str | None = None
    """What kind of error it was where nothing answered."""


class FeedRead(SQLModel, table=True):
    """A stretch of the change feed that one key has read, without a gap."""

    __tablename__ = "feed_read"
    __table_args__ = (Index("feed_read_upto", "upto"), Index("feed_read_at", "at"))

    id: str = identifier()
    key_id: str = reference("api_key.id")
    after: int = Field(sa_column=Column(BigInteger, nullable=False))
    """The position its cursor stood for ..."""
    upto: int = Field(sa_column=Column(BigInteger, nullable=False))
    """... and the last one it was given."""
    at: datetime = time()
    """When the last of it was given."""
