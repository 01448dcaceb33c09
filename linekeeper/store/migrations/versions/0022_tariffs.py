"""Who said a connection's hosting and tier; a ledger of its own for each app.

Runs: before the new code (expand)
"""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    op.add_column("connection", sa.Column("tariff_by", sa.String(), nullable=True))
    op.add_column("customer", sa.Column("hosting", sa.String(), nullable=True))
    op.add_column("customer", sa.Column("tier", sa.String(), nullable=True))
    op.add_column(
        "credit_entry", sa.Column("app", sa.String(), nullable=False, server_default="default")
    )
    op.execute(
        "UPDATE credit_entry SET app = (SELECT owner.app FROM connection AS owner "
        "WHERE owner.id = credit_entry.connection_id) WHERE connection_id IS NOT NULL"
    )
    op.execute(
        "UPDATE credit_entry SET app = (SELECT owner.app FROM implementation AS owner "
        "WHERE owner.id = credit_entry.implementation_id) "
        "WHERE implementation_id IS NOT NULL AND connection_id IS NULL"
    )
