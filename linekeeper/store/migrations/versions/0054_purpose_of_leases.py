"""What a lease is held for is a column of its own; it had been the beginning of the owner's name.

Runs: before the new code (expand).
"""

import sqlalchemy as sa
from alembic import op

revision = "0054"
down_revision = "0053"


def upgrade() -> None:
    op.add_column("lease", sa.Column("purpose", sa.String(), nullable=True))
