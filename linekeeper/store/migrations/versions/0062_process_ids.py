"""Which process a sign of life is of, and on which machine: both had been parts of a name.

A row of before has neither until its process is started again, by the version that writes them.

Runs: before the new code (expand).
"""

import sqlalchemy as sa
from alembic import op

revision = "0062"
down_revision = "0061"
branch_labels = None
depends_on = None
serves = (
    *("0043", "0044", "0045", "0046", "0047", "0048", "0049", "0050", "0051", "0052"),
    *("0053", "0054", "0055", "0056", "0057", "0058", "0059", "0060", "0061"),
)


def upgrade() -> None:
    op.add_column("part_heartbeat", sa.Column("process_id", sa.Integer(), nullable=True))
    op.add_column("open_process", sa.Column("host", sa.String(), nullable=True))
    op.add_column("open_process", sa.Column("process_id", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("open_process", "process_id")
    op.drop_column("open_process", "host")
    op.drop_column("part_heartbeat", "process_id")
