"""When a connection was made, as Makini's list says: it had only been known when it was first seen.

A row of before has none until the next list.

Runs: before the new code (expand).
"""

import sqlalchemy as sa
from alembic import op

from linekeeper.store.types import UtcDateTime

revision = "0070"
down_revision = "0064"
branch_labels = None
depends_on = None
serves = (
    *("0043", "0044", "0045", "0046", "0047", "0048", "0049", "0050", "0051", "0052"),
    *("0053", "0054", "0055", "0056", "0057", "0058", "0059", "0060", "0061", "0062", "0063"),
)


def upgrade() -> None:
    op.add_column("connection", sa.Column("made_at", UtcDateTime(), nullable=True))


def downgrade() -> None:
    op.drop_column("connection", "made_at")
