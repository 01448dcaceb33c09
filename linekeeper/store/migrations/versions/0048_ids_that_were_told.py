"""What a connection's own status calls it is kept as told only, no longer put down as its key.

Runs: before the new code (expand).
"""

from alembic import op

revision = "0048"
down_revision = "0047"


def upgrade() -> None:
    op.execute("UPDATE connection SET makini_id = NULL WHERE makini_id = makini_key")
