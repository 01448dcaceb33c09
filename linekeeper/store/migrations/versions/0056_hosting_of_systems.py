"""The systems of one implementation may be hosted differently.

Runs: before the new code (expand).
"""

import sqlalchemy as sa
from alembic import op

revision = "0056"
down_revision = "0055"


def upgrade() -> None:
    op.add_column("implementation_system", sa.Column("hosting", sa.String(), nullable=True))
