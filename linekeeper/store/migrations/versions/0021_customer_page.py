"""Links to customers' own pages.

Runs: before the new code (expand)
"""

import sqlalchemy as sa
from alembic import op

from linekeeper.store.types import Id, UtcDateTime

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    op.create_table(
        "customer_link",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("customer_id", Id(), sa.ForeignKey("customer.id"), nullable=False, index=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("revoked_at", UtcDateTime(), nullable=True),
        sa.Column("opened_at", UtcDateTime(), nullable=True),
        sa.Column("answered_at", UtcDateTime(), nullable=True),
        sa.Column("opens", sa.Integer(), nullable=False),
    )
