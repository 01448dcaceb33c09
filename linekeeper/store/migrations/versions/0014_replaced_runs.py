"""Runs of a reconnect that another one replaced.

Runs: before the new code (expand)
"""

import sqlalchemy as sa
from alembic import op

from linekeeper.store.types import Json

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.add_column(
        "reconnect", sa.Column("replaced_runs", Json, nullable=False, server_default="[]")
    )
