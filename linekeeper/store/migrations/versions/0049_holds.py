"""Times in which an implementation was on hold, as the audit has them.

Runs: before the new code (expand).
"""

import sqlalchemy as sa
from alembic import op

from linekeeper.store.types import Id, Json, UtcDateTime

revision = "0049"
down_revision = "0048"

ENDS = ("implementation.resume", "implementation.abandon")


def upgrade() -> None:
    op.add_column("implementation", sa.Column("holds", Json, nullable=False, server_default="[]"))
    implementation = sa.table(
        "implementation",
        sa.column("id", Id),
        sa.column("live_at", UtcDateTime),
        sa.column("holds", Json),
    )
    audit = sa.table(
        "audit",
        sa.column("id"),
        sa.column("at", UtcDateTime),
        sa.column("action"),
        sa.column("detail", Json),
    )
    connection = op.get_bind()
    entries = connection.execute(
        sa.select(audit.c.at, audit.c.action, audit.c.detail)
        .where(audit.c.action.in_(("implementation.hold", *ENDS)))
        .order_by(audit.c.at, audit.c.id)
    )
    holds: dict[str, list[dict[str, str]]] = {}
    for at, action, detail in entries:
        rows = holds.setdefault(str((detail or {}).get("implementation")), [])
        lasts = bool(rows) and "until" not in rows[-1]
        if action in ENDS and lasts:
            rows[-1]["until"] = at.isoformat()
        elif action not in ENDS and not lasts:
            rows.append({"since": at.isoformat()})
    for identifier, live_at in connection.execute(
        sa.select(implementation.c.id, implementation.c.live_at)
    ).all():
        rows = holds.get(identifier, [])
        if rows and "until" not in rows[-1] and live_at is not None:
            rows[-1]["until"] = live_at.isoformat()
        if rows:
            connection.execute(
                sa.update(implementation)
                .where(implementation.c.id == identifier)
                .values(holds=rows)
            )
