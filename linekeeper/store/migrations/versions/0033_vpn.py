"""Whether Makini reaches a system through a VPN tunnel.

Runs: before the new code (expand)
"""

import sqlalchemy as sa
from alembic import op

revision = "0033"
down_revision = "0032"


def upgrade() -> None:
    op.add_column(
        "implementation_system",
        sa.Column("vpn", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
