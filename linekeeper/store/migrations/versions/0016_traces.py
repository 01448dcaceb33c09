"""What explain needs recorded: attempts to forward, reads of the change feed, numbers to find by.

Runs: before the new code (expand)
"""

import sqlalchemy as sa
from alembic import op

from linekeeper.store.types import Id, UtcDateTime

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    op.create_table(
        "forward_attempt",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("message_id", sa.String(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("error", sa.String(), nullable=True),
    )
    op.create_index("forward_attempt_of", "forward_attempt", ["message_id"])
    op.create_index("forward_attempt_at", "forward_attempt", ["at"])
    op.create_table(
        "feed_read",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("key_id", Id(), sa.ForeignKey("api_key.id"), nullable=False),
        sa.Column("after", sa.BigInteger(), nullable=False),
        sa.Column("upto", sa.BigInteger(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
    )
    op.create_index("feed_read_upto", "feed_read", ["upto"])
    op.create_index("feed_read_at", "feed_read", ["at"])
    op.create_index(
        "record_number",
        "record",
        ["number", "connection_id"],
        sqlite_where=sa.text("number IS NOT NULL"),
        postgresql_where=sa.text("number IS NOT NULL"),
    )
