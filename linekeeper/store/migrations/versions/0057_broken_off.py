"""Why the last whole listing of an entity ended before the end that its source speaks of.

Runs: before the new code (expand).
"""

import sqlalchemy as sa
from alembic import op

revision = "0057"
down_revision = "0056"
branch_labels = None
depends_on = None
serves = (
    *("0043", "0044", "0045", "0046", "0047", "0048", "0049", "0050", "0051", "0052"),
    *("0053", "0054", "0055", "0056"),
)


def upgrade() -> None:
    op.add_column("watermark", sa.Column("broken_off", sa.String(), nullable=True))


def downgrade() -> None:
    op.drop_column("watermark", "broken_off")
