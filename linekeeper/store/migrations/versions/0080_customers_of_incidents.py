"""The customer whose trouble an incident of several connections is.

A row of before has none, and stays an incident of its provider, or of the app.

Runs: before the new code (expand).
"""

import sqlalchemy as sa
from alembic import op

from linekeeper.store.types import Id

revision = "0080"
down_revision = "0079"
serves = (
    *("0043", "0044", "0045", "0046", "0047", "0048", "0049", "0050", "0051", "0052"),
    *("0053", "0054", "0055", "0056", "0057", "0058", "0059", "0060", "0061", "0062"),
    *("0063", "0064", "0070", "0071", "0072", "0073", "0074", "0075", "0076", "0079"),
)


def upgrade() -> None:
    op.add_column("incident", sa.Column("customer_id", Id(), nullable=True))
