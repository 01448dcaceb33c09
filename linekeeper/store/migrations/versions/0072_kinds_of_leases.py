"""What a lease is for, and which one thing it is about: both had been read out of its name.

Runs: before the new code (expand).
"""

import sqlalchemy as sa
from alembic import op

revision = "0072"
down_revision = "0071"

_LEASE = sa.table(
    "lease",
    sa.column("name", sa.String()),
    sa.column("kind", sa.String()),
    sa.column("subject", sa.String()),
)


def upgrade() -> None:
    for column in ("kind", "subject"):
        op.add_column("lease", sa.Column(column, sa.String(), nullable=True))
    name = _LEASE.c.name
    found = sa.func.instr if op.get_bind().dialect.name == "sqlite" else sa.func.strpos
    colon = found(name, ":")
    kind = sa.case((colon > 0, sa.func.substr(name, 1, colon - 1)), else_=name)
    subject = sa.case((colon > 0, sa.func.substr(name, colon + 1)))
    op.execute(sa.update(_LEASE).values(kind=kind, subject=subject))
