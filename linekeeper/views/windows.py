"""Of whom nobody is notified now: maintenance windows, mutes, a pause; until when, set by whom."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.store.lists import count_rows
from linekeeper.store.tables import Audit, Incident, Silence
from linekeeper.store.tables.alerts import PAUSE_WINDOW

WINDOWS_SHOWN = 50
NAMES = {"maintenance": "maintenance window", "mute": "mute", PAUSE_WINDOW: "pause"}


@dataclass(frozen=True, slots=True)
class WindowGlance:
    """One of them. Times are UTC."""

    kind: str
    """`maintenance`, `mute`, or `pause`."""
    label: str
    """What it covers: a connection, a customer, a provider, everything, or one incident."""
    until: datetime | None
    """None: until somebody ends it."""
    by: str
    reason: str = ""
    incident: str | None = None
    """The id of the incident, where it covers that alone."""

    @property
    def name(self) -> str:
        """What people call it."""
        name = NAMES.get(self.kind, self.kind)
        return f"{name} of one incident" if self.incident else name


@dataclass(frozen=True, slots=True)
class WindowsGlance:
    """What is in force: the first to end first."""

    total: int = 0
    shown: Sequence[WindowGlance] = ()
    """At most `WINDOWS_SHOWN` of each kind."""

    @property
    def remaining(self) -> str:
        """How many there are besides; empty for none."""
        others = self.total - len(self.shown)
        return f"… and {others:,} more" if others > 0 else ""


async def windows_in_force(session: AsyncSession, now: datetime) -> WindowsGlance:
    """What holds notifications back at `now`, set by a person or by `linekeeper_paused`."""
    is_open = (
        col(Silence.starts_at) <= now,
        col(Silence.ends_at) > now,
        or_(col(Silence.ended_at).is_(None), col(Silence.ended_at) > now),
    )
    is_muted = (col(Incident.resolved_at).is_(None), col(Incident.muted_until) > now)
    total = await count_rows(session, Silence, *is_open)
    total += await count_rows(session, Incident, *is_muted)
    windows = await session.scalars(
        select(Silence).where(*is_open).order_by(col(Silence.ends_at)).limit(WINDOWS_SHOWN)
    )
    shown = [
        WindowGlance(
            row.kind,
            row.label,
            None if row.kind == PAUSE_WINDOW else row.ends_at,
            row.by,
            row.reason,
        )
        for row in windows
    ]
    muted = await session.execute(
        select(col(Incident.id), col(Incident.title), col(Incident.muted_until))
        .where(*is_muted)
        .order_by(col(Incident.muted_until))
        .limit(WINDOWS_SHOWN)
    )
    incidents = muted.all()
    said_by = await _muted_by(session, [row[0] for row in incidents])
    shown += [
        WindowGlance("mute", title, until, said_by.get(incident_id, ""), incident=incident_id)
        for incident_id, title, until in incidents
    ]
    shown.sort(key=lambda window: (window.until is None, window.until or now))
    return WindowsGlance(total, tuple(shown))


async def _muted_by(session: AsyncSession, incident_ids: Sequence[str]) -> dict[str, str]:
    """Who muted these incidents last."""
    rows = await session.execute(
        select(col(Audit.subject), col(Audit.by))
        .where(col(Audit.action) == "incident.muted", col(Audit.subject).in_(incident_ids))
        .order_by(col(Audit.at))
    )
    return {row[0]: row[1] for row in rows}
