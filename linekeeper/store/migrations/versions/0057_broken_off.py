"""Why the last whole listing of an entity ended before the end that its source speaks of.

Runs: before the new code (expand).
"""

import sqlalchemy as sa
from alembic import op

revision = "0057"
down_revision = "0056"


def upgrade() -> None:
    op.add_column("watermark", sa.Column("broken_off", sa.String(), nullable=True))
