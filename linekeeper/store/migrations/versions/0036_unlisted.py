"""Since when a connection is in no list of Makini's, whole or truncated.

Runs: before the new code (expand)
"""

import sqlalchemy as sa
from alembic import op

from linekeeper.store.types import UtcDateTime

revision = "0036"
down_revision = "0035"


def upgrade() -> None:
    op.add_column("connection", sa.Column("unlisted_since", UtcDateTime(), nullable=True))
