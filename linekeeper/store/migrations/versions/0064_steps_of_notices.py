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
_REWRITE = """
ALTER TABLE notice
  ALTER COLUMN step_kind TYPE VARCHAR USING
    CASE WHEN step NOT LIKE '%:%' THEN step
         WHEN step LIKE 'reminder:%' OR step LIKE 'joined:%' THEN split_part(step, ':', 1) END,
  ALTER COLUMN number TYPE INTEGER USING
    CASE WHEN step NOT LIKE '%:%' THEN 0
         WHEN step LIKE 'reminder:%' OR step LIKE 'joined:%'
         THEN CAST(split_part(step, ':', 2) AS INTEGER) END
"""
"""An update writes each row once more, and each of its indexes; this writes the table anew."""


def upgrade() -> None:
    op.add_column("notice", sa.Column("step_kind", sa.String(), nullable=True))
    op.add_column("notice", sa.Column("number", sa.Integer(), nullable=True))
    if op.get_bind().dialect.name == "postgresql":
        op.execute(_REWRITE)
        return
    name = _NOTICE.c.step
    of_kind = {kind: name.startswith(f"{kind}:") for kind in ("reminder", "joined")}
    is_plain = ~name.contains(":")
    kinds = sa.case((is_plain, name), *((which, kind) for kind, which in of_kind.items()))
    numbers = sa.case(
        (is_plain, 0),
        *(
            (which, sa.cast(sa.func.substr(name, len(kind) + 2), sa.Integer()))
            for kind, which in of_kind.items()
        ),
    )
    op.execute(sa.update(_NOTICE).values(step_kind=kinds, number=numbers))
