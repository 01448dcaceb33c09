"""An index by the key that a record had before: "where is it?" is asked by the old key, too.

Runs: before the new code (expand)
"""

import sqlalchemy as sa
from alembic import op

revision = "0041"
down_revision = "0040"


def upgrade() -> None:
    op.create_index(
        "change_renamed",
        "change",
        ["connection_id", "old_key"],
        sqlite_where=sa.text("old_key IS NOT NULL"),
        postgresql_where=sa.text("old_key IS NOT NULL"),
    )
