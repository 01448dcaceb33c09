"""What a connection was configured to be read for, and how far that has been verified.

Runs: before the new code (expand)
"""

import sqlalchemy as sa
from alembic import op

from linekeeper.store.types import Id, UtcDateTime

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    op.create_table(
        "connection_setting",
        sa.Column("connection_id", Id(), sa.ForeignKey("connection.id"), primary_key=True),
        sa.Column("entity", sa.String(), primary_key=True),
        sa.Column("cadence_minutes", sa.Integer(), nullable=True),
        sa.Column("keep_bodies", sa.Boolean(), nullable=True),
    )
    op.create_table(
        "workflow_configuration",
        sa.Column("connection_id", Id(), sa.ForeignKey("connection.id"), primary_key=True),
        sa.Column("configured_at", UtcDateTime(), nullable=False),
        sa.Column("configured_by", sa.String(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=True),
        sa.Column("waits_for", sa.String(), nullable=True),
        sa.Column("read_at", UtcDateTime(), nullable=True),
        sa.Column("webhooks_at", UtcDateTime(), nullable=True),
        sa.Column("reconciled_at", UtcDateTime(), nullable=True),
        sa.Column("verified_at", UtcDateTime(), nullable=True),
        sa.Column("look_at", UtcDateTime(), nullable=True),
        sa.Column("webhooks_accepted", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("answers", sa.Integer(), nullable=False, server_default="0"),
    )
