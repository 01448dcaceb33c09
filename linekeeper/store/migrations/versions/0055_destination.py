"""Where a forward goes is a column of its own; it had been the beginning of its ordering key.

Runs: before the new code (expand).
"""

import sqlalchemy as sa
from alembic import op

revision = "0055"
down_revision = "0054"
branch_labels = None
depends_on = None
serves = (
    *("0043", "0044", "0045", "0046", "0047", "0048", "0049", "0050", "0051", "0052"),
    *("0053", "0054"),
)


def upgrade() -> None:
    op.add_column("outbox", sa.Column("destination", sa.String(), nullable=True))


def downgrade() -> None:
    op.drop_column("outbox", "destination")
