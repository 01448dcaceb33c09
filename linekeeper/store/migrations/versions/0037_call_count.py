"""Calls to Makini by app, hour and purpose: who spends what of the quota.

Runs: before the new code (expand)
"""

import sqlalchemy as sa
from alembic import op

from linekeeper.store.types import UtcDateTime

revision = "0037"
down_revision = "0036"


def upgrade() -> None:
    op.create_table(
        "call_count",
        sa.Column("app", sa.String(), primary_key=True),
        sa.Column("hour", UtcDateTime(), primary_key=True),
        sa.Column("purpose", sa.String(), primary_key=True),
        sa.Column("calls", sa.Integer(), nullable=False),
        sa.Column("refused", sa.Integer(), nullable=False),
    )
