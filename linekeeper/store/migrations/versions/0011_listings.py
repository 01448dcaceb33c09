"""What a whole listing says beside the source's own total, and from when on it reaches.

Runs: before the new code (expand)
"""

import sqlalchemy as sa
from alembic import op

from linekeeper.store.types import UtcDateTime

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.add_column("watermark", sa.Column("listed", sa.Integer(), nullable=True))
    op.add_column("watermark", sa.Column("source_total", sa.Integer(), nullable=True))
    op.add_column(
        "watermark", sa.Column("inconsistent", sa.Integer(), nullable=False, server_default="0")
    )
    op.add_column("watermark", sa.Column("filter_refused_at", UtcDateTime(), nullable=True))
    op.add_column("watermark", sa.Column("run_at", UtcDateTime(), nullable=True))
    op.add_column("watermark", sa.Column("window_since", UtcDateTime(), nullable=True))
