"""A connection that disappeared at Makini; what a person accepted of a list that is too short.

Runs: before the new code (expand)
"""

import sqlalchemy as sa
from alembic import op

from linekeeper.store.types import UtcDateTime

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("connection", sa.Column("disappeared_at", UtcDateTime(), nullable=True))
    op.add_column(
        "app_state",
        sa.Column("accepted_shortfall", sa.Integer(), nullable=False, server_default="0"),
    )
