"""Which shard counted what: the finds of other runs beside the shards are not theirs.

Runs: before the new code (expand).
"""

import sqlalchemy as sa
from alembic import op

revision = "0051"
down_revision = "0050"
branch_labels = None
depends_on = None
serves = ("0043", "0044", "0045", "0046", "0047", "0048", "0049", "0050")


def upgrade() -> None:
    op.add_column("drift", sa.Column("shard", sa.String(), nullable=True))


def downgrade() -> None:
    op.drop_column("drift", "shard")
