"""The customer's own page: the links to it."""

from datetime import datetime

from sqlmodel import Field, SQLModel

from linekeeper.store.types import identifier, optional_time, reference, time


class CustomerLink(SQLModel, table=True):
    """A link to a customer's page; its address is signed, and it works until it is revoked."""

    __tablename__ = "customer_link"

    id: str = identifier()
    customer_id: str = reference("customer.id", index=True)
    created_at: datetime = time()
    created_by: str
    revoked_at: datetime | None = optional_time()
    opened_at: datetime | None = optional_time()
    """When it was opened last, to the hour."""
    answered_at: datetime | None = optional_time()
    """When the customer ticked or commented something last."""
    opens: int = Field(default=0)
    """In how many hours it was opened."""
