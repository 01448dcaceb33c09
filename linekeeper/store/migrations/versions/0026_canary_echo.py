"""When the product echoed a canary.

Runs: before the new code (expand)
"""

import sqlalchemy as sa
from alembic import op

from linekeeper.store.types import UtcDateTime

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    op.add_column("webhook_event", sa.Column("echoed_at", UtcDateTime(), nullable=True))
