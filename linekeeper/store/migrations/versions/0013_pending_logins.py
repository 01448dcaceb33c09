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
        sa.Column("id", Id(), primary_key=True),
        sa.Column("link_id", Id(), sa.ForeignKey("connect_link.id"), nullable=False, index=True),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("access_token", sa.String(), nullable=False),
        sa.Column("refresh_token", sa.String(), nullable=True),
        sa.Column("expires_at", UtcDateTime(), nullable=True),
        sa.Column("received_at", UtcDateTime(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("retry_at", UtcDateTime(), nullable=False),
    )
    op.create_index("pending_login_due", "pending_login", ["retry_at"])
