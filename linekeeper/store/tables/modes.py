"""What operators decided of the mode of some connections, where it isn't that of their app."""

from datetime import datetime

from sqlalchemy import Index
from sqlmodel import SQLModel

from linekeeper.store.types import identifier, time


class ModeRule(SQLModel, table=True):
    """A mode, or whether customers are notified, for an app, a tag, a customer or a connection."""

    __tablename__ = "mode_rule"
    __table_args__ = (Index("mode_rule_once", "scope", "subject", unique=True),)

    id: str = identifier()
    scope: str
    """`app`, `tag`, `customer` or `connection`."""
    subject: str
    """The app's name, the tag, or the id of the customer or connection."""
    label: str
    """What it is about, as people call it."""
    mode: str | None = None
    """`observe` or `manage`; None: it says nothing of the mode."""
    notify_customers: bool | None = None
    """None: it says nothing of that."""
    by: str
    at: datetime = time()
