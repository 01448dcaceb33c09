"""How often a customer was asked to renew a login before its end.

Runs: before the new code (expand)
"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    op.add_column(
        "credential", sa.Column("ending_notified", sa.Integer(), nullable=False, server_default="0")
    )
