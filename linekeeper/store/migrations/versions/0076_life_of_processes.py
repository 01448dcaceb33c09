"""What tells a process from a later one with its id: of one that was killed nothing was certain.

A row of before has nothing, and is waited for as ever.

Runs: before the new code (expand).
"""

import sqlalchemy as sa
from alembic import op

revision = "0076"
down_revision = "0075"
serves = (
    *("0043", "0044", "0045", "0046", "0047", "0048", "0049", "0050", "0051", "0052"),
    *("0053", "0054", "0055", "0056", "0057", "0058", "0059", "0060", "0061", "0062"),
    *("0063", "0064", "0070", "0071", "0072", "0073", "0074", "0075"),
)


def upgrade() -> None:
    op.add_column("open_process", sa.Column("life", sa.String(), nullable=True))
