"""Each entity of a connection fails alone: its state in columns, no longer in a message.

Runs: before the new code (expand)
"""

import sqlalchemy as sa
from alembic import op

from linekeeper.store.types import UtcDateTime

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    with op.batch_alter_table("watermark") as table:
        table.add_column(sa.Column("grain_seconds", sa.Float(), nullable=True))
        table.add_column(sa.Column("failure", sa.String(), nullable=True))
        table.add_column(sa.Column("failures", sa.Integer(), nullable=False, server_default="0"))
        table.add_column(sa.Column("failing_since", UtcDateTime(), nullable=True))
        table.add_column(sa.Column("retry_at", UtcDateTime(), nullable=True))
        table.add_column(sa.Column("not_found_since", UtcDateTime(), nullable=True))
