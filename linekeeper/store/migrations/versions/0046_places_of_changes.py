"""Places in the change feed are large numbers: after a restore the feed goes on far ahead.

Runs: before the new code (expand). On PostgreSQL the table `change` is written anew, a minute or
two for tens of millions of rows, during which events wait.
"""

import sqlalchemy as sa
from alembic import op

revision = "0046"
down_revision = "0045"


def upgrade() -> None:
    _to(sa.BigInteger(), sa.Integer())


def _to(kind: sa.types.TypeEngine[int], before: sa.types.TypeEngine[int]) -> None:
    if op.get_bind().dialect.name == "sqlite":
        return  # every integer there has 64 bits
    op.alter_column("change", "position", type_=kind, existing_type=before)
    op.alter_column("feed_end", "position", type_=kind, existing_type=before)
