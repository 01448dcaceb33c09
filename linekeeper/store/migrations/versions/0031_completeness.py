"""How many records are here, beside the source's own total, and when the two agreed.

Runs: before the new code (expand)
"""

import sqlalchemy as sa
from alembic import op

from linekeeper.store.types import UtcDateTime

revision = "0031"
down_revision = "0030"


def upgrade() -> None:
    op.add_column("watermark", sa.Column("indexed", sa.Integer(), nullable=True))
    op.add_column(
        "watermark", sa.Column("lacking", sa.Integer(), nullable=False, server_default="0")
    )
    op.add_column("watermark", sa.Column("compared_at", UtcDateTime(), nullable=True))
    op.add_column("watermark", sa.Column("agreed_at", UtcDateTime(), nullable=True))
