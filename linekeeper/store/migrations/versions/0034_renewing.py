"""Since when a refresh is under way: a process that is killed meanwhile leaves the pair in doubt.

Runs: before the new code (expand)
"""

import sqlalchemy as sa
from alembic import op

from linekeeper.store.types import UtcDateTime

revision = "0034"
down_revision = "0033"


def upgrade() -> None:
    op.add_column("credential", sa.Column("renewing_since", UtcDateTime(), nullable=True))
