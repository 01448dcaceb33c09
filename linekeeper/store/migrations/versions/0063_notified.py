"""What people were notified of when an implementation slipped, as JSON in place of lines of text.

Code of before goes on with the text, `implementation.told`, which is written beside the column. It
can be dropped (after the new code, contract) once no migration serves a schema before this one.

Runs: before the new code (expand).
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

from linekeeper.store.types import Id, Json

revision = "0063"
down_revision = "0062"

_IMPLEMENTATION = sa.table(
    "implementation",
    sa.column("id", Id()),
    sa.column("told", sa.String()),
    sa.column("notified", Json),
)
_PROMISED, _WELL = "promised ", "well since "


def upgrade() -> None:
    op.add_column("implementation", sa.Column("notified", Json, nullable=True))
    columns, connection = _IMPLEMENTATION.c, op.get_bind()
    written = sa.select(columns.id, columns.told).where(columns.told != "")
    for identifier, told in connection.execute(written).all():
        is_it = columns.id == identifier
        connection.execute(sa.update(_IMPLEMENTATION).where(is_it).values(notified=_read(told)))


def _read(told: str) -> dict[str, Any]:
    signs, said = [], []
    promised = well_since = None
    for line in filter(None, told.split("\n")):
        if line.startswith(_PROMISED):
            promised, _, state = line.removeprefix(_PROMISED).partition(":")
            said.append(state)
        elif line.startswith(_WELL):
            well_since = line.removeprefix(_WELL)
        else:
            kind, _, subject = line.partition(":")
            signs.append({"kind": kind, "subject": subject})
    return {"signs": signs, "promised": promised, "said": said, "well_since": well_since}
