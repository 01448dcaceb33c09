"""When Makini refused to renew a pair of tokens.

Runs: before the new code (expand)
"""

import sqlalchemy as sa
from alembic import op

from linekeeper.store.types import UtcDateTime

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("credential", sa.Column("refused_at", UtcDateTime(), nullable=True))
