"""Which Slack channel an incident was told in, so that it stays there.

Runs: before the new code (expand)
"""

import sqlalchemy as sa
from alembic import op

revision = "0040"
down_revision = "0039"


def upgrade() -> None:
    op.add_column("notice", sa.Column("slack_channel", sa.String(), nullable=True))
