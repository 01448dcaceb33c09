"""What an incident carries becomes columns; its timeline is a table.

Runs: before the new code (expand)
"""

import json
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

from linekeeper.store.types import Id, Json, UtcDateTime

revision = "0012"
down_revision = "0011"

_TIMES = ("snoozed_until", "muted_at", "muted_until")
_TEXTS = ("run_id", "connect_url", "code", "message", "request_id")


def upgrade() -> None:
    op.add_column("incident", sa.Column("summary", sa.String(), nullable=False, server_default=""))
    op.add_column("incident", sa.Column("figure", sa.Float(), nullable=True))
    for name in _TIMES:
        op.add_column("incident", sa.Column(name, UtcDateTime(), nullable=True))
    for name in _TEXTS:
        op.add_column("incident", sa.Column(name, sa.String(), nullable=True))
    op.create_table(
        "incident_entry",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("incident_id", Id(), sa.ForeignKey("incident.id"), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
    )
    op.create_index("incident_entry_of", "incident_entry", ["incident_id", "at"])
    _carry_over()


def _carry_over() -> None:
    """What the column `detail` held goes into the columns of its own."""
    incident = sa.table(
        "incident",
        sa.column("id", Id()),
        sa.column("detail", Json),
        sa.column("summary", sa.String()),
        sa.column("figure", sa.Float()),
        *(sa.column(name, UtcDateTime()) for name in _TIMES),
        *(sa.column(name, sa.String()) for name in _TEXTS),
    )
    connection = op.get_bind()
    for identifier, detail in connection.execute(sa.select(incident.c.id, incident.c.detail)).all():
        held: dict[str, Any] = json.loads(detail) if isinstance(detail, str) else dict(detail or {})
        values: dict[str, Any] = {
            name: datetime.fromisoformat(held.pop(name)) for name in _TIMES if held.get(name)
        }
        values |= {name: str(held.pop(name)) for name in _TEXTS if held.get(name)}
        if held.get("found"):
            values["summary"] = str(held.pop("found"))
        if held.get("figure") is not None:
            values["figure"] = float(held.pop("figure"))
        if values:
            connection.execute(
                sa.update(incident).where(incident.c.id == identifier).values(**values, detail=held)
            )
