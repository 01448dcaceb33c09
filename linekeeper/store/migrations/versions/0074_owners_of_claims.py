"""Which process a claim is of: it had been the beginning of the claim's name.

What is claimed at this moment has none: the name says it until the claim ends.

Runs: before the new code (expand).
"""

import sqlalchemy as sa
from alembic import op

revision = "0074"
down_revision = "0073"
serves = (
    *("0043", "0044", "0045", "0046", "0047", "0048", "0049", "0050", "0051", "0052"),
    *("0053", "0054", "0055", "0056", "0057", "0058", "0059", "0060", "0061", "0062"),
    *("0063", "0064", "0070", "0071", "0072", "0073"),
)


def upgrade() -> None:
    for table in ("outbox", "webhook_event"):
        op.add_column(table, sa.Column("claim_owner", sa.String(), nullable=True))
