"""What is asked while a transaction writes is found by an index, however much is kept.

Runs: before the new code (expand).
"""

import sqlalchemy as sa
from alembic import op

revision = "0053"
down_revision = "0052"
branch_labels = None
depends_on = None
serves = ("0043", "0044", "0045", "0046", "0047", "0048", "0049", "0050", "0051", "0052")

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


def downgrade() -> None:
    op.drop_index("incident_connection_ever", "incident_connection")
    op.drop_index("audit_action", "audit")
    op.drop_index("outbox_pending", "outbox")
