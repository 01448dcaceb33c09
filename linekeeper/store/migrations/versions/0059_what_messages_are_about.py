"""What a message of the outbox is for, and what it is about: both had been read out of its key.

Runs: before the new code (expand).
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from linekeeper.store.types import Id, Json

revision = "0059"
down_revision = "0058"

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


def _is_postgresql() -> bool:
    return op.get_bind().dialect.name == "postgresql"


def _mails() -> None:
    """Of those about a case: its incident and attempt, which before 0055 only the key says."""
    columns = _OUTBOX.c
    incident, stated = (columns.payload[name].as_string() for name in ("incident_id", "attempt"))
    mails = (columns.channel == "email") & incident.is_not(None)
    op.execute(sa.update(_OUTBOX).where(mails).values(kind="mail", subject=incident))
    # email:<incident>:<attempt>:…
    rest = sa.func.substr(_KEY, len("email:") + _ID + 2)
    attempt = sa.cast(sa.func.substr(rest, 1, _place(rest, ":") - 1), sa.Integer())
    if _is_postgresql():
        payload = sa.type_coerce(columns.payload, JSONB())
        counted = payload.concat(sa.func.jsonb_build_object("attempt", attempt))
    else:
        counted = sa.func.json_set(columns.payload, "$.attempt", attempt)
    is_said = _KEY.like("email:________-____-____-____-____________:%:%")
    op.execute(sa.update(_OUTBOX).where(mails, stated.is_(None), is_said).values(payload=counted))


def _forwards() -> None:
    """Of those that are not settled: their app and destination, and the connection, if one."""
    columns = _OUTBOX.c
    after_channel = sa.func.substr(columns.lane, len("forward:") + 1).concat("/")
    in_lane = sa.func.substr(after_channel, 1, _place(after_channel, "/") - 1)
    destination = sa.func.coalesce(columns.destination, in_lane)
    ended = destination.concat("@")
    last = sa.func.substr(columns.lane, sa.func.length(columns.lane) - (_ID - 1))
    is_id = columns.lane.like("%/________-____-____-____-____________")
    unsettled = columns.channel == "forward", columns.status.in_(("pending", "dead"))
    op.execute(
        sa.update(_OUTBOX)
        .where(*unsettled)
        .values(
            destination=destination,
            app=sa.func.substr(ended, 1, _place(ended, "@") - 1),
            subject=sa.case((is_id, last)),
        )
    )


def _place(text: sa.ColumnElement[str], sought: str) -> sa.ColumnElement[int]:
    """Where `sought` begins in `text`, counted from 1."""
    found = sa.func.strpos if _is_postgresql() else sa.func.instr
    return found(text, sought)
