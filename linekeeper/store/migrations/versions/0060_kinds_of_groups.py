"""Of which kind the one message about several incidents is: the beginning of its key had said it.

Runs: before the new code (expand).
"""

import sqlalchemy as sa
from alembic import op

revision = "0060"
down_revision = "0059"

_NOTICE = sa.table("notice", sa.column("fold", sa.String()), sa.column("group_kind", sa.String()))


def upgrade() -> None:
    op.add_column("notice", sa.Column("group_kind", sa.String(), nullable=True))
    for kind in ("morning", "cap", "over", "elsewhere"):
        is_it = _NOTICE.c.fold.startswith(f"{kind}:")
        op.execute(sa.update(_NOTICE).where(is_it).values(group_kind=kind))
