"""Which reminder a customer was due last, and when the run of a case was asked to look.

Runs: before the new code (expand)
"""

import sqlalchemy as sa
from alembic import op

from linekeeper.store.types import UtcDateTime

revision = "0028"
down_revision = "0027"


def upgrade() -> None:
    op.add_column(
        "incident_connection",
        sa.Column("reminded", sa.Integer(), nullable=False, server_default="0"),
    )
    op.add_column("reconnect", sa.Column("woken_at", UtcDateTime(), nullable=True))
