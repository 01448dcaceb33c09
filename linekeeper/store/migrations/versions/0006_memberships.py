"""One connection may be in several incidents of one topic; apps taken out of the settings.

Runs: before the new code (expand)
"""

import sqlalchemy as sa
from alembic import op

from linekeeper.store.types import UtcDateTime

revision = "0006"
down_revision = "0005"

_LIVE = sa.text("left_at IS NULL")


def upgrade() -> None:
    op.drop_index("incident_connection_live_once", table_name="incident_connection")
    op.create_index(
        "incident_connection_live_once",
        "incident_connection",
        ["connection_id", "incident_id"],
        unique=True,
        sqlite_where=_LIVE,
        postgresql_where=_LIVE,
    )
    op.add_column("app_state", sa.Column("removed_at", UtcDateTime(), nullable=True))
