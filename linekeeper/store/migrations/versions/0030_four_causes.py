"""What was announced late, in our own outages or never is counted apart.

Runs: before the new code (expand)
"""

from collections import defaultdict
from typing import Any

import sqlalchemy as sa
from alembic import op

from linekeeper.store.types import Id

revision = "0030"
down_revision = "0029"


def upgrade() -> None:
    op.add_column("change", sa.Column("missed_in", Id(), nullable=True))
    op.add_column("drift", sa.Column("came_late", sa.Integer(), nullable=False, server_default="0"))
    op.add_column(
        "webhook_trust", sa.Column("caught_up", sa.Integer(), nullable=False, server_default="0")
    )
    op.add_column(
        "outage", sa.Column("cause", sa.String(), nullable=False, server_default="receiver")
    )
    canary = sa.text("kind = 'canary'")
    op.create_index(
        "webhook_event_canary",
        "webhook_event",
        ["received_at"],
        sqlite_where=canary,
        postgresql_where=canary,
    )
    _share_out()


def _share_out() -> None:
    """Late ones were counted apart from what they had been missed in: the oldest come first."""
    drift = sa.table(
        "drift",
        sa.column("id", Id()),
        sa.column("connection_id", Id()),
        sa.column("entity", sa.String()),
        sa.column("run_at", sa.String()),
        sa.column("missed", sa.Integer()),
        sa.column("late", sa.Integer()),
        sa.column("came_late", sa.Integer()),
        sa.column("cause", sa.String()),
    )
    connection = op.get_bind()
    rows = connection.execute(
        sa.select(drift.c.id, drift.c.connection_id, drift.c.entity, drift.c.missed, drift.c.late)
        .where(drift.c.cause.is_(None), (drift.c.missed > 0) | (drift.c.late > 0))
        .order_by(drift.c.connection_id, drift.c.entity, drift.c.run_at)
    ).all()
    waiting: dict[tuple[str, str], list[list[Any]]] = defaultdict(list)
    came: dict[str, int] = defaultdict(int)
    for identifier, connection_id, entity, missed, late in rows:
        queue = waiting[connection_id, entity]
        left = late
        while left and queue:
            number = min(left, queue[0][1])
            came[queue[0][0]] += number
            queue[0][1] -= number
            left -= number
            if not queue[0][1]:
                queue.pop(0)
        if missed:
            queue.append([identifier, missed])
    if came:
        connection.execute(
            drift.update()
            .where(drift.c.id == sa.bindparam("row"))
            .values(came_late=sa.bindparam("number")),
            [{"row": row, "number": number} for row, number in came.items()],
        )
