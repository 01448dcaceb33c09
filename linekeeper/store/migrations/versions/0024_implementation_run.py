"""The one run of an implementation, and when a step was skipped.

Runs: before the new code (expand)
"""

import sqlalchemy as sa
from alembic import op

from linekeeper.store.types import UtcDateTime

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    op.add_column("implementation", sa.Column("abandoned_at", UtcDateTime(), nullable=True))
    op.add_column("implementation", sa.Column("run_id", sa.String(), nullable=True))
    op.add_column("implementation", sa.Column("run_at", UtcDateTime(), nullable=True))
    op.add_column(
        "implementation",
        sa.Column("run_attempt", sa.Integer(), nullable=False, server_default="0"),
    )
    op.add_column("gate", sa.Column("skipped_at", UtcDateTime(), nullable=True))
