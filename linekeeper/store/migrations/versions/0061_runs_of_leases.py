"""Which flow run holds a lease: it had been the end of the owner's name.

Two columns are left that nothing writes any more: `outbox.claimed_until` and
`succession.listed_at`. Code of before asks for them with all others of their tables, so they can be
dropped (after the new code, contract) once no migration serves a schema before this one.
`implementation.planned_p80` nobody reads either; but it takes no null, and making it take one
copies the table on SQLite, so it is written until it can be dropped with them.

Runs: before the new code (expand).
"""

import sqlalchemy as sa
from alembic import op

revision = "0061"
down_revision = "0060"


def upgrade() -> None:
    op.add_column("lease", sa.Column("run_id", sa.String(), nullable=True))
    op.add_column("lease", sa.Column("run_fence", sa.Integer(), nullable=True))
