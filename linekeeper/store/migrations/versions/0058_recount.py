"""How many records a source says it has, between two whole listings.

Runs: before the new code (expand).
"""

import sqlalchemy as sa
from alembic import op

from linekeeper.store.types import UtcDateTime

revision = "0058"
down_revision = "0057"
branch_labels = None
depends_on = None
serves = (
    *("0043", "0044", "0045", "0046", "0047", "0048", "0049", "0050", "0051", "0052"),
    *("0053", "0054", "0055", "0056", "0057"),
)


def upgrade() -> None:
    op.add_column("watermark", sa.Column("count_base", sa.Integer(), nullable=True))
    op.add_column("watermark", sa.Column("counted_at", UtcDateTime(), nullable=True))
    op.add_column("watermark", sa.Column("count_difference", sa.Integer(), nullable=True))


def downgrade() -> None:
    for column in ("count_difference", "counted_at", "count_base"):
        op.drop_column("watermark", column)
