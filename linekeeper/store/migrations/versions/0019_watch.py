"""Who is alive; which runs ended by themselves; what Prefect's automations reported.

Runs: before the new code (expand)
"""

import sqlalchemy as sa
from alembic import op

from linekeeper.store.types import UtcDateTime

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    op.create_table(
        "part_heartbeat",
        sa.Column("part", sa.String(), primary_key=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("since", UtcDateTime(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("mark", sa.String(), nullable=False),
    )
    op.create_table(
        "ended_run",
        sa.Column("run_id", sa.String(), primary_key=True),
        sa.Column("at", UtcDateTime(), nullable=False, index=True),
    )
    op.create_table(
        "run_alert",
        sa.Column("cause", sa.String(), primary_key=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("run_name", sa.String(), nullable=False),
        sa.Column("state_message", sa.String(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
    )
