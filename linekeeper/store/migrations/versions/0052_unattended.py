"""A message does not age while nobody is there to try it.

Runs: before the new code (expand).
"""

import sqlalchemy as sa
from alembic import op

from linekeeper.store.types import UtcDateTime

revision = "0052"
down_revision = "0051"


def upgrade() -> None:
    op.add_column("outbox", sa.Column("retry_at", UtcDateTime(), nullable=True))
    op.add_column("outbox", sa.Column("counts_from", UtcDateTime(), nullable=True))
