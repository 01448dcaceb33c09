"""For when a message of the outbox was planned that was written for later.

Runs: before the new code (expand).
"""

import sqlalchemy as sa
from alembic import op

from linekeeper.store.types import UtcDateTime

revision = "0050"
down_revision = "0049"


def upgrade() -> None:
    op.add_column("outbox", sa.Column("due_at", UtcDateTime, nullable=True))
    # Of those that wait for a time: runs to be woken, which nobody has tried yet.
    op.execute(
        "UPDATE outbox SET due_at = next_attempt_at WHERE channel = 'run' AND status = 'pending' "
        "AND attempts = 0 AND claimed_by IS NULL AND next_attempt_at > created_at"
    )
