"""Makini's own headers of a webhook, where the product gets it as Makini sends it.

Revision ID: 0014
Revises: 0013

Runs: before the new code (expand)
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Add the column; what is there has none."""
    op.add_column("webhook_event", sa.Column("headers", sa.LargeBinary(), nullable=True))
