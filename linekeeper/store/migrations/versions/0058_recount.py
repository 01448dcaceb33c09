"""How many records a source says it has, between two whole listings.

Runs: before the new code (expand).
"""

import sqlalchemy as sa
from alembic import op

from linekeeper.store.types import UtcDateTime

revision = "0058"
down_revision = "0057"


def upgrade() -> None:
    op.add_column("watermark", sa.Column("count_base", sa.Integer(), nullable=True))
    op.add_column("watermark", sa.Column("counted_at", UtcDateTime(), nullable=True))
    op.add_column("watermark", sa.Column("count_difference", sa.Integer(), nullable=True))
