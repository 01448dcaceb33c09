"""When nothing that was sent to us could arrive: by the receivers' heartbeats, and by canaries."""

from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from sqlalchemy import bindparam, literal_column, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.inbox.meaning import CANARY
from linekeeper.reconcile.causes import (
    CANARIES_LACKING,
    Stored,
    Window,
    absences,
    canary_gaps,
    overlap,
    stood_still,
    usual_step,
)
from linekeeper.store.tables import Outage, PartHeartbeat, ReceiverHeartbeat, WebhookEvent
from linekeeper.store.types import UtcDateTime, id_floor

COUNTED_WITHIN = timedelta(days=8)
"""Changes are counted soon after they are found, at the latest when their delivery comes late."""
CANARIES_LOOKED_AT = 200
LOOKED_BACK = timedelta(days=15)
"""So far back the hours in which webhooks came are looked at, and a day."""


class ReceiverAbsence(NamedTuple):
    """An outage of ours, and what it was."""

    cause: Literal["receiver", "standstill", "unreachable"]
    """What `Outage.cause` says."""
    window: Window


async def known_outages(session: AsyncSession, *, now: datetime) -> list[Window]:
    """Every outage of ours in the last days, also one that isn't over yet."""
    since = now - COUNTED_WITHIN
    rows = await session.execute(
        select(col(Outage.since), col(Outage.until)).where(col(Outage.until) >= since)
    )
    noted = [Window(*row) for row in rows]
    absences = await find_absences(session, now, since=since, open_too=True)
    return [*noted, *(outage.window for outage in absences)]


async def receivers_away(session: AsyncSession, now: datetime) -> list[Window]:
    """When no receiver of ours could store, in the last days; nothing that only canaries show."""
    spans = await session.execute(_SPANS, {"since": now - LOOKED_BACK})
    return absences([(span.since, span.at) for span in spans])


async def standstills(session: AsyncSession, now: datetime) -> list[Window]:
    """When nothing of ours ran, in the last days, whether it is written down yet or not."""
    since = now - LOOKED_BACK
    rows = await session.execute(
        select(col(Outage.since), col(Outage.until)).where(
            col(Outage.until) >= since, col(Outage.cause) == "standstill"
        )
    )
    absences_found = await find_absences(session, now, since=since)
    windows = [*(Window(*row) for row in rows)]
    windows += [each.window for each in absences_found if each.cause == "standstill"]
    return list({window.since: window for window in windows}.values())


_SPANS = select(
    col(ReceiverHeartbeat.since), col(ReceiverHeartbeat.at), col(ReceiverHeartbeat.receiver)
).where(col(ReceiverHeartbeat.at) >= bindparam("since", type_=UtcDateTime))
_SWEEPS = select(col(PartHeartbeat.since), col(PartHeartbeat.at)).where(
    col(PartHeartbeat.part) == "sweep"
)
_LAST_CANARIES = (
    select(col(WebhookEvent.received_at), col(WebhookEvent.app))
    .where(col(WebhookEvent.kind) == literal_column(f"'{CANARY}'"))
    .order_by(col(WebhookEvent.received_at).desc())
    .limit(CANARIES_LOOKED_AT)
)


async def find_absences(
    session: AsyncSession, now: datetime, *, since: datetime, open_too: bool = False
) -> list[ReceiverAbsence]:
    """Those that heartbeats and canaries show; with `open_too` those that aren't over, too."""
    spans = [Stored(*row) for row in await session.execute(_SPANS, {"since": since})]
    down = absences([(each.since, each.until) for each in spans], now=now if open_too else None)
    row = (await session.execute(_SWEEPS)).first() if down else None
    sweeps = None if row is None else (row.since, row.at)
    canaries = sorted((at, app) for at, app in await session.execute(_LAST_CANARIES))
    came = [at for at, _ in canaries]
    step = usual_step(canaries) or timedelta()
    silences = [
        await _silence(session, gap, now, open_too=open_too)
        for gap in (canary_gaps(came, step, now=now) if step else [])
    ]
    unreachable = [
        silence
        for silence in silences
        if silence is not None
        and silence.length > step * CANARIES_LACKING
        and not any(overlap(silence, absence) * 2 >= silence.length for absence in down)
    ]
    return [
        *(
            ReceiverAbsence(
                "standstill" if stood_still(window, spans, sweeps) else "receiver", window
            )
            for window in down
        ),
        *(ReceiverAbsence("unreachable", window) for window in unreachable),
    ]


async def _silence(
    session: AsyncSession, gap: Window, now: datetime, *, open_too: bool
) -> Window | None:
    """Return the time from the last delivery before the first missing canary to the next one."""
    floor = id_floor(gap.since)
    received = select(col(WebhookEvent.received_at)).where(col(WebhookEvent.source) == "webhook")
    last = await session.scalar(
        received.where(col(WebhookEvent.id) < floor).order_by(col(WebhookEvent.id).desc()).limit(1)
    )
    first = await session.scalar(
        received.where(col(WebhookEvent.id) >= floor).order_by(col(WebhookEvent.id)).limit(1)
    )
    if last is None or (first is None and not open_too):
        return None
    return Window(last, first or now)
