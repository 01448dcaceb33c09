"""Which shard counted what: the finds of other runs beside the shards are not theirs.

Runs: before the new code (expand).
"""

import sqlalchemy as sa
from alembic import op

revision = "0051"
down_revision = "0050"


def upgrade() -> None:
    op.add_column("drift", sa.Column("shard", sa.String(), nullable=True))
