"""Where a connection is forwarded to, where that isn't the forward URL of its app.

Runs: before the new code (expand)
"""

import sqlalchemy as sa
from alembic import op

revision = "0039"
down_revision = "0038"


def upgrade() -> None:
    op.add_column("connection_setting", sa.Column("forward_to", sa.String(), nullable=True))
