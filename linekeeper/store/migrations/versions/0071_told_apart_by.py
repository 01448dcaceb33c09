"""What tells a customer's systems of one product apart: they had one name for operators.

A row of before has nothing until the next list.

Runs: before the new code (expand).
"""

import sqlalchemy as sa
from alembic import op

revision = "0071"
down_revision = "0070"
serves = (
    *("0043", "0044", "0045", "0046", "0047", "0048", "0049", "0050", "0051", "0052"),
    *("0053", "0054", "0055", "0056", "0057", "0058", "0059", "0060", "0061", "0062"),
    *("0063", "0064", "0070"),
)


def upgrade() -> None:
    op.add_column("connection", sa.Column("told_apart_by", sa.String(), nullable=True))
