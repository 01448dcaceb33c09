"""${message}

Runs: before the new code (expand) | after the old code is gone (contract)
"""

import sqlalchemy as sa
from alembic import op

from linekeeper.store.types import Id, Json, UtcDateTime

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}
