"""What a message of the outbox is for, and what it is about: both had been read out of its key.

Runs: before the new code (expand).
"""

import sqlalchemy as sa
from alembic import op

from linekeeper.store.types import Id, Json

revision = "0059"
down_revision = "0058"
branch_labels = None
depends_on = None
serves = (
    *("0043", "0044", "0045", "0046", "0047", "0048", "0049", "0050", "0051", "0052"),
    *("0053", "0054", "0055", "0056", "0057", "0058"),
)

_ID = 36
_OUTBOX = sa.table(
    "outbox",
    sa.column("id", Id()),
    sa.column("channel", sa.String()),
    sa.column("status", sa.String()),
    sa.column("dedupe_key", sa.String()),
    sa.column("lane", sa.String()),
    sa.column("payload", Json),
    sa.column("kind", sa.String()),
    sa.column("subject", sa.String()),
    sa.column("app", sa.String()),
    sa.column("destination", sa.String()),
)
_KEY, _IS_PENDING = _OUTBOX.c.dedupe_key, _OUTBOX.c.status == "pending"


def upgrade() -> None:
    for column in ("kind", "subject", "app"):
        op.add_column("outbox", sa.Column(column, sa.String(), nullable=True))
    # Those that are still asked for; what is not pending is not, but for the last digest.
    _name("say", "slack:say:", _IS_PENDING)
    _name("slip", "slack:say:implementation:", _IS_PENDING & _KEY.like("%:slip:%"), has_id=True)
    _name("digest", "slack:say:digest:", _OUTBOX.c.channel == "slack")
    waking = _IS_PENDING & _KEY.like("%:wake:%")
    _name("wake", "implementation:", waking, has_id=True)
    _name("look", "implementation:", waking & _KEY.like("%:at:%"), has_id=True)
    _name("follow_up", "after:", _OUTBOX.c.channel == "run", has_id=True)
    _mails()
    _forwards()


def _name(
    kind: str, beginning: str, which: sa.ColumnElement[bool], *, has_id: bool = False
) -> None:
    """The kind of the rows whose keys begin so; after that comes the id of what they are about."""
    values: dict[str, object] = {"kind": kind}
    if has_id:
        values["subject"] = sa.func.substr(_KEY, len(beginning) + 1, _ID)
    op.execute(sa.update(_OUTBOX).where(_KEY.startswith(beginning), which).values(values))


def _mails() -> None:
    """Of those about a case: its incident and attempt, which before 0055 only the key says."""
    columns, connection = _OUTBOX.c, op.get_bind()
    mails = sa.select(columns.id, columns.dedupe_key, columns.payload).where(
        columns.channel == "email"
    )
    for identifier, key, payload in connection.execute(mails).all():
        if "incident_id" in payload:
            attempt = payload["attempt"] if "attempt" in payload else int(key.split(":")[2])
            values = {
                "kind": "mail",
                "subject": payload["incident_id"],
                "payload": {**payload, "attempt": attempt},
            }
            connection.execute(sa.update(_OUTBOX).where(columns.id == identifier).values(values))


def _forwards() -> None:
    """Of those that are not settled: their app and destination, and the connection, if one."""
    columns = _OUTBOX.c
    unsettled = sa.update(_OUTBOX).where(
        columns.channel == "forward", columns.status.in_(("pending", "dead"))
    )
    is_postgresql = op.get_bind().dialect.name == "postgresql"
    place = sa.func.strpos if is_postgresql else sa.func.instr
    after_channel = sa.func.substr(columns.lane, len("forward:") + 1).concat("/")
    destination = sa.func.substr(after_channel, 1, place(after_channel, "/") - 1)
    op.execute(unsettled.where(columns.destination.is_(None)).values(destination=destination))
    ended = columns.destination.concat("@")
    op.execute(unsettled.values(app=sa.func.substr(ended, 1, place(ended, "@") - 1)))
    last = sa.func.substr(columns.lane, sa.func.length(columns.lane) - (_ID - 1))
    is_id = columns.lane.like("%/________-____-____-____-____________")
    op.execute(unsettled.where(is_id).values(subject=last))


def downgrade() -> None:
    for column in ("app", "subject", "kind"):
        op.drop_column("outbox", column)
