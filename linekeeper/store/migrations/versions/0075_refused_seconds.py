"""How long Makini has refused the pair of a kept login: it had been for as long as it was kept.

Of one that is kept at this moment it counts from the next refusal.

Runs: before the new code (expand).
"""

import sqlalchemy as sa
from alembic import op

revision = "0075"
down_revision = "0074"
serves = (
    *("0043", "0044", "0045", "0046", "0047", "0048", "0049", "0050", "0051", "0052"),
    *("0053", "0054", "0055", "0056", "0057", "0058", "0059", "0060", "0061", "0062"),
    *("0063", "0064", "0070", "0071", "0072", "0073", "0074"),
)


def upgrade() -> None:
    op.add_column(
        "pending_login",
        sa.Column("refused_seconds", sa.Integer(), nullable=False, server_default="0"),
    )
