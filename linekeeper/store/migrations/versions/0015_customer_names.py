"""Other names of a customer; whether a contact was confirmed by a person.

Runs: before the new code (expand)
"""

import sqlalchemy as sa
from alembic import op

from linekeeper.store.types import Json

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.add_column("customer", sa.Column("aliases", Json, nullable=False, server_default="[]"))
    op.add_column(
        "contact", sa.Column("confirmed", sa.Boolean(), nullable=False, server_default=sa.true())
    )
