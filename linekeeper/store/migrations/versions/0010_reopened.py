"""When an incident was opened again and how often; notices of each of these rounds.

Runs: before the new code (expand)
"""

import sqlalchemy as sa
from alembic import op

from linekeeper.store.types import UtcDateTime

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("incident", sa.Column("reopened_at", UtcDateTime(), nullable=True))
    op.add_column("incident", sa.Column("round", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("notice", sa.Column("round", sa.Integer(), nullable=False, server_default="0"))
    op.drop_index("notice_once", table_name="notice")
    op.create_index(
        "notice_once", "notice", ["incident_id", "channel", "step", "round"], unique=True
    )
