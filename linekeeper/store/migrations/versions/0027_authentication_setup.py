"""Set-ups of logins: how far each is and what its run waits for.

Runs: before the new code (expand)
"""

import sqlalchemy as sa
from alembic import op

from linekeeper.store.types import Id, UtcDateTime

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    op.create_table(
        "authentication_setup",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("run_id", sa.String(), nullable=False, unique=True),
        sa.Column("connection_id", Id(), sa.ForeignKey("connection.id"), nullable=True),
        sa.Column("system_id", Id(), sa.ForeignKey("implementation_system.id"), nullable=True),
        sa.Column("link_id", Id(), sa.ForeignKey("connect_link.id"), nullable=True),
        sa.Column("started_at", UtcDateTime(), nullable=False),
        sa.Column("started_by", sa.String(), nullable=False),
        sa.Column("logins_from", UtcDateTime(), nullable=False),
        sa.Column("confirmed_at", UtcDateTime(), nullable=True),
        sa.Column("confirmed_by", sa.String(), nullable=True),
        sa.Column("without_preflight", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("links", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("send_again", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("asked_at", UtcDateTime(), nullable=True),
        sa.Column("is_mailed", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("reminded", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("verified_at", UtcDateTime(), nullable=True),
        sa.Column("waits_for", sa.String(), nullable=True),
        sa.Column("look_at", UtcDateTime(), nullable=True),
        sa.Column("answers", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.Column("ended_at", UtcDateTime(), nullable=True),
    )
    op.create_index("authentication_setup_connection", "authentication_setup", ["connection_id"])
    op.create_index("authentication_setup_system", "authentication_setup", ["system_id"])
    op.create_index("authentication_setup_open", "authentication_setup", ["ended_at"])
