"""When an app was out of the settings and came back: nobody looked at its connections then.

Of times of before it is not known.

Runs: before the new code (expand).
"""

import sqlalchemy as sa
from alembic import op

from linekeeper.store.types import Id, UtcDateTime

revision = "0084"
down_revision = "0083"
serves = (
    *("0043", "0044", "0045", "0046", "0047", "0048", "0049", "0050", "0051", "0052"),
    *("0053", "0054", "0055", "0056", "0057", "0058", "0059", "0060", "0061", "0062"),
    *("0063", "0064", "0070", "0071", "0072", "0073", "0074", "0075", "0076", "0079", "0080"),
    "0083",
)


def upgrade() -> None:
    op.create_table(
        "app_absence",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("app", sa.String(), nullable=False),
        sa.Column("since", UtcDateTime(), nullable=False),
        sa.Column("until", UtcDateTime(), nullable=False),
    )
