"""Which block the copy of a block is of, and whose a listing is: both had been in the name.

Runs: before the new code (expand).
"""

import sqlalchemy as sa
from alembic import op

revision = "0073"
down_revision = "0072"

_SETTING = sa.table(
    "app_setting",
    sa.column("name", sa.String()),
    sa.column("kind", sa.String()),
    sa.column("subject", sa.String()),
)
_NAME = _SETTING.c.name


def upgrade() -> None:
    for column in ("kind", "subject"):
        op.add_column("app_setting", sa.Column(column, sa.String(), nullable=True))
    for kind in ("slack", "policy", "alerts", "mail"):
        op.execute(sa.update(_SETTING).where(_NAME.in_([f"block:{kind}"])).values(kind=kind))
    for kind, beginning in (
        ("app", "block:app:"),
        ("slack", "block:slack:"),
        ("listing", "listing:"),
    ):
        subject = sa.func.substr(_NAME, len(beginning) + 1)
        values: dict[str, object] = {"kind": kind, "subject": subject}
        op.execute(sa.update(_SETTING).where(_NAME.startswith(beginning)).values(values))
