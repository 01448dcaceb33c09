"""An index of connect links by customer: a customer's page looked through all links there were.

Runs: before the new code (expand)
"""

from alembic import op

revision = "0043"
down_revision = "0042"


def upgrade() -> None:
    op.create_index("connect_link_customer", "connect_link", ["customer_id"])
