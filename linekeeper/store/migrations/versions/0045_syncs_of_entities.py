"""What Makini says of its own sync of one entity is kept beside that entity.

Runs: before the new code (expand)
"""

import sqlalchemy as sa
from alembic import op

from linekeeper.store.types import UtcDateTime

revision = "0045"
down_revision = "0044"


def upgrade() -> None:
    op.add_column("watermark", sa.Column("sync_failed_at", UtcDateTime(), nullable=True))
    op.add_column("watermark", sa.Column("sync_error", sa.String(), nullable=True))
    op.add_column("watermark", sa.Column("synced_at", UtcDateTime(), nullable=True))
