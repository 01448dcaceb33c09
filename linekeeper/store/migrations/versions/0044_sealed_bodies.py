"""Bodies of webhooks are encrypted once they are settled; the keys they name stay beside them.

Runs: before the new code (expand)
"""

import sqlalchemy as sa
from alembic import op

revision = "0044"
down_revision = "0043"

_PLAIN = sa.text("status <> 'pending' AND body IS NOT NULL AND body_keys IS NULL")


def upgrade() -> None:
    op.add_column("webhook_event", sa.Column("body_keys", sa.LargeBinary(), nullable=True))
    op.create_index(
        "webhook_event_plain",
        "webhook_event",
        ["processed_at"],
        sqlite_where=_PLAIN,
        postgresql_where=_PLAIN,
    )
