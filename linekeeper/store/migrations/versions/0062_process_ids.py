"""Which process a sign of life is of, and on which machine: both had been parts of a name.

A row of before has neither until its process is started again, by the version that writes them.

Runs: before the new code (expand).
"""

import sqlalchemy as sa
from alembic import op

revision = "0062"
down_revision = "0061"


def upgrade() -> None:
    op.add_column("part_heartbeat", sa.Column("process_id", sa.Integer(), nullable=True))
    op.add_column("open_process", sa.Column("host", sa.String(), nullable=True))
    op.add_column("open_process", sa.Column("process_id", sa.Integer(), nullable=True))
