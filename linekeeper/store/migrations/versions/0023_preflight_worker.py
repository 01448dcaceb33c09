"""Which worker made a preflight report; which base URL an app's list came from.

Runs: before the new code (expand)
"""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    op.add_column("app_state", sa.Column("listed_from", sa.String(), nullable=True))
    op.add_column("preflight_report", sa.Column("worker", sa.String(), nullable=True))
