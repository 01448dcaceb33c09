"""How strong the evidence of a connection's health is, and when it was last read.

Runs: before the new code (expand)
"""

import sqlalchemy as sa
from alembic import op

from linekeeper.store.types import UtcDateTime

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("connection", sa.Column("last_read_at", UtcDateTime(), nullable=True))
    op.add_column("connection", sa.Column("evidence", sa.String(), nullable=True))
    op.execute(
        "UPDATE connection SET evidence = CASE WHEN EXISTS (SELECT 1 FROM credential "
        "WHERE credential.connection_id = connection.id) THEN 'probed' ELSE 'listed' END "
        "WHERE last_answered_at IS NOT NULL"
    )
