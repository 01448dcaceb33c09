"""Which record keys of an event are done.

Revision ID: 0009
Revises: 0008

Runs: before the new code (expand)
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the column; what is there has none."""
    op.add_column("webhook_event", sa.Column("keys_done", sa.LargeBinary(), nullable=True))
