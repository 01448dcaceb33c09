"""Where a forward goes is a column of its own; it had been the beginning of its ordering key.

Runs: before the new code (expand).
"""

import sqlalchemy as sa
from alembic import op

revision = "0055"
down_revision = "0054"


def upgrade() -> None:
    op.add_column("outbox", sa.Column("destination", sa.String(), nullable=True))
