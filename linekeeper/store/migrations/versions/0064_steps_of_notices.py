"""What a notice is, and which of its kind: both had been read out of its step's name.

Runs: before the new code (expand).
"""

import sqlalchemy as sa
from alembic import op

revision = "0064"
down_revision = "0063"

_NOTICE = sa.table(
    "notice",
    sa.column("step", sa.String()),
    sa.column("step_kind", sa.String()),
    sa.column("number", sa.Integer()),
)


def upgrade() -> None:
    op.add_column("notice", sa.Column("step_kind", sa.String(), nullable=True))
    op.add_column("notice", sa.Column("number", sa.Integer(), nullable=True))
    name = _NOTICE.c.step
    values: dict[str, object] = {"step_kind": name, "number": 0}
    op.execute(sa.update(_NOTICE).where(~name.contains(":")).values(values))
    for kind in ("reminder", "joined"):
        counted = sa.func.substr(name, len(kind) + 2)
        values = {"step_kind": kind, "number": sa.cast(counted, sa.Integer())}
        op.execute(sa.update(_NOTICE).where(name.startswith(f"{kind}:")).values(values))
