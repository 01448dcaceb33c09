"""Who renews a connection's tokens.

Revision ID: 0018
Revises: 0017

Runs: before the new code (expand)
"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    """Add the column; whatever is there is ours, as it was."""
    op.add_column(
        "connection", sa.Column("custody", sa.String(), nullable=False, server_default="owned")
    )
