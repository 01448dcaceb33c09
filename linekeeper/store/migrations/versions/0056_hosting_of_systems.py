"""The systems of one implementation may be hosted differently.

Runs: before the new code (expand).
"""

import sqlalchemy as sa
from alembic import op

revision = "0056"
down_revision = "0055"
branch_labels = None
depends_on = None
serves = (
    *("0043", "0044", "0045", "0046", "0047", "0048", "0049", "0050", "0051", "0052"),
    *("0053", "0054", "0055"),
)


def upgrade() -> None:
    op.add_column("implementation_system", sa.Column("hosting", sa.String(), nullable=True))


def downgrade() -> None:
    op.drop_column("implementation_system", "hosting")
