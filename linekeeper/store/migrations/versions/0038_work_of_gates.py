"""The runs that do the work of gates, and what a configuration has shown.

Runs: before the new code (expand)
"""

import sqlalchemy as sa
from alembic import op

from linekeeper.store.types import UtcDateTime

revision = "0038"
down_revision = "0037"


def upgrade() -> None:
    op.add_column("gate", sa.Column("work_run_id", sa.String(), nullable=True))
    op.add_column(
        "gate", sa.Column("work_attempt", sa.Integer(), nullable=False, server_default="0")
    )
    op.add_column("gate", sa.Column("work_at", UtcDateTime(), nullable=True))
    op.add_column(
        "gate",
        sa.Column("is_work_over", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.add_column(
        "workflow_configuration",
        sa.Column("evidence", sa.String(), nullable=False, server_default=""),
    )
