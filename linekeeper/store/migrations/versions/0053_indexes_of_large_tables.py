"""What is asked while a transaction writes is found by an index, however much is kept.

Runs: before the new code (expand).
"""

import sqlalchemy as sa
from alembic import op

revision = "0053"
down_revision = "0052"

_PENDING = sa.text("status = 'pending'")


def upgrade() -> None:
    op.create_index(
        "outbox_pending",
        "outbox",
        ["next_attempt_at"],
        sqlite_where=_PENDING,
        postgresql_where=_PENDING,
    )
    op.create_index("audit_action", "audit", ["action", "at"])
    op.create_index("incident_connection_ever", "incident_connection", ["connection_id", "topic"])
