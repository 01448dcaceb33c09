"""Outbox: how a message ended, and what the product said of a forward, are columns and no prose.

Runs: before the new code (expand)
"""

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"

_OUTBOX = sa.table(
    "outbox",
    sa.column("status", sa.String()),
    sa.column("error", sa.String()),
    sa.column("refusal", sa.String()),
)


def upgrade() -> None:
    op.add_column("outbox", sa.Column("refusal", sa.String(), nullable=True))
    _read_prose("no Slack configured; would have said: ", status="skipped")
    _read_prose("withheld: ", status="suppressed")
    _read_prose("not needed: ", status="skipped")
    _read_prose("refused: ", refusal="refused")
    _read_prose("gone: ", refusal="gone")
    op.execute(
        sa.update(_OUTBOX)
        .where(_OUTBOX.c.status == "sent", _OUTBOX.c.error.startswith("said with "))
        .values(status="superseded")
    )


def _read_prose(prefix: str, **values: str) -> None:
    state = ("sent",) if "status" in values else ("pending", "dead")
    op.execute(
        sa.update(_OUTBOX)
        .where(_OUTBOX.c.status.in_(state), _OUTBOX.c.error.startswith(prefix))
        .values(error=sa.func.substr(_OUTBOX.c.error, len(prefix) + 1), **values)
    )
