"""When a connection was made, as Makini's list says: it had only been known when it was first seen.

A row of before has none until the next list.

Runs: before the new code (expand).
"""

import sqlalchemy as sa
from alembic import op

from linekeeper.store.types import UtcDateTime

revision = "0070"
down_revision = "0064"


def upgrade() -> None:
    op.add_column("connection", sa.Column("made_at", UtcDateTime(), nullable=True))
