"""What each page showed when it was written, and whom the last sweep left out.

Runs: before the new code (expand)
"""

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"


def upgrade() -> None:
    op.add_column("notice_message", sa.Column("stamp", sa.String(), nullable=True))
    op.add_column(
        "app_state", sa.Column("left_out", sa.Integer(), nullable=False, server_default="0")
    )
