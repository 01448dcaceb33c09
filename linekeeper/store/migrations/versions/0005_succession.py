"""What a successor inherits: natural keys of records, old keys in the feed, the steps between.

Runs: before the new code (expand)
"""

import sqlalchemy as sa
from alembic import op

from linekeeper.store.types import Id, UtcDateTime

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    for name in ("number", "natural_key", "plain_hash"):
        op.add_column("record", sa.Column(name, sa.String(), nullable=True))
    op.add_column("change", sa.Column("old_key", sa.String(), nullable=True))
    op.create_table(
        "succession",
        sa.Column("connection_id", Id(), sa.ForeignKey("connection.id"), primary_key=True),
        sa.Column("entity", sa.String(), primary_key=True),
        sa.Column("predecessor_id", Id(), sa.ForeignKey("connection.id"), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("listed_at", UtcDateTime(), nullable=True),
        sa.Column("done_at", UtcDateTime(), nullable=True),
        sa.Column("rule", sa.String(), nullable=True),
        sa.Column("comparable", sa.Boolean(), nullable=False),
        *(
            sa.Column(name, sa.Integer(), nullable=False)
            for name in (
                "records",
                "matched",
                "rekeyed",
                "updated",
                "inserted",
                "absent",
                "ambiguous",
                "unmatched",
            )
        ),
    )
    op.create_index("succession_predecessor", "succession", ["predecessor_id"])
    op.create_index("succession_status", "succession", ["status"])
    op.create_table(
        "succession_step",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("connection_id", Id(), sa.ForeignKey("connection.id"), nullable=False),
        sa.Column("entity", sa.String(), nullable=False),
        sa.Column("op", sa.String(), nullable=False),
        sa.Column("old_key", sa.String(), nullable=True),
        sa.Column("new_key", sa.String(), nullable=True),
        sa.Column("group_key", sa.String(), nullable=True),
    )
    op.create_index(
        "succession_step_of", "succession_step", ["connection_id", "entity", "op", "id"]
    )
    op.create_index(
        "succession_step_new", "succession_step", ["connection_id", "entity", "new_key"]
    )
