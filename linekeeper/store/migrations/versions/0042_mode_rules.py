"""The mode of single connections, tags and customers, and what it comes to for each connection.

Runs: before the new code (expand)
"""

import sqlalchemy as sa
from alembic import op

from linekeeper.store.types import Id, UtcDateTime

revision = "0042"
down_revision = "0041"


def upgrade() -> None:
    op.create_table(
        "mode_rule",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("mode", sa.String(), nullable=True),
        sa.Column("notify_customers", sa.Boolean(), nullable=True),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
    )
    op.create_index("mode_rule_once", "mode_rule", ["scope", "subject"], unique=True)
    op.add_column("connection", sa.Column("mode", sa.String(), nullable=True))
    op.add_column("connection", sa.Column("notify_customers", sa.Boolean(), nullable=True))
