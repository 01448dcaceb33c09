"""The tags that a connection has from the one whose place it took.

Runs: before the new code (expand).
"""

import sqlalchemy as sa
from alembic import op

from linekeeper.store.types import Json

revision = "0087"
down_revision = "0086"
serves = (
    *("0043", "0044", "0045", "0046", "0047", "0048", "0049", "0050", "0051", "0052"),
    *("0053", "0054", "0055", "0056", "0057", "0058", "0059", "0060", "0061", "0062"),
    *("0063", "0064", "0070", "0071", "0072", "0073", "0074", "0075", "0076", "0079", "0080"),
    *("0083", "0084", "0085", "0086"),
)


def upgrade() -> None:
    op.add_column("connection", sa.Column("inherited_tags", Json, nullable=True))
