"""A pause that Makini asked of one connection, apart from the app's.

Runs: before the new code (expand)
"""

import sqlalchemy as sa
from alembic import op

from linekeeper.store.types import UtcDateTime

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "call_pause",
        sa.Column("app", sa.String(), primary_key=True),
        sa.Column("connection", sa.String(), primary_key=True),
        sa.Column("refused_at", UtcDateTime(), nullable=False),
        sa.Column("until", UtcDateTime(), nullable=False),
    )
