"""Since when the list of an app was read again and again: what it lacked "all day" counts by that.

Of an app of before that is not known: a day counts from its next list.

Runs: before the new code (expand).
"""

import sqlalchemy as sa
from alembic import op

from linekeeper.store.types import UtcDateTime

revision = "0083"
down_revision = "0080"
serves = (
    *("0043", "0044", "0045", "0046", "0047", "0048", "0049", "0050", "0051", "0052"),
    *("0053", "0054", "0055", "0056", "0057", "0058", "0059", "0060", "0061", "0062"),
    *("0063", "0064", "0070", "0071", "0072", "0073", "0074", "0075", "0076", "0079", "0080"),
)


def upgrade() -> None:
    op.add_column("app_state", sa.Column("listed_since", UtcDateTime(), nullable=True))
