"""Token pairs of logins whose status could not be asked yet.

Runs: before the new code (expand)
"""

import sqlalchemy as sa
from alembic import op

from linekeeper.store.types import Id, UtcDateTime

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.create_table(
        "pending_login",
        sa.Column("id", Id(), nullable=False),
        sa.Column("link_id", Id(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("access_token", sa.String(), nullable=False),
        sa.Column("refresh_token", sa.String(), nullable=True),
        sa.Column("expires_at", UtcDateTime(), nullable=True),
        sa.Column("received_at", UtcDateTime(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("retry_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["link_id"], ["connect_link.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_pending_login_link_id", "pending_login", ["link_id"])
    op.create_index("pending_login_due", "pending_login", ["retry_at"])
