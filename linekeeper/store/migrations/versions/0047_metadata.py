"""What Makini's list says of a connection's metadata, as a digest: a successor is known by it.

Runs: before the new code (expand).
"""

import sqlalchemy as sa
from alembic import op

revision = "0047"
down_revision = "0046"


def upgrade() -> None:
    op.add_column("connection", sa.Column("metadata_digest", sa.String(), nullable=True))
