"""The consumer's look at set-ups that wait: their runs are woken, their customers reminded."""

from datetime import datetime

from sqlmodel import col, select

from linekeeper.access.pending import kept_login
from linekeeper.authentication_setup import service
from linekeeper.authentication_setup.ask import remind
from linekeeper.authentication_setup.decide import is_worth_a_look
from linekeeper.reconnect.remind import due
from linekeeper.runtime import Runtime
from linekeeper.store.tables import AuthenticationSetup, ConnectLink


async def watch(rt: Runtime, *, now: datetime) -> int:
    """Wake the runs that have something to do, remind customers; how many were woken."""
    async with rt.store.read() as session:
        set_ups = await session.scalars(
            select(col(AuthenticationSetup.run_id)).where(
                col(AuthenticationSetup.ended_at).is_(None),
                col(AuthenticationSetup.waits_for).is_not(None),
            )
        )
        waiting = list(set_ups)
    woken = 0
    for run_id in waiting:
        standing = await service.load_standing(rt, run_id, now=now)
        row, link = standing.row, standing.link
        if is_worth_a_look(standing, now=now):
            await service.wake(rt, run_id, now=now)
            woken += 1
        elif link is not None and (since := standing.reminders_from(now)) is not None:
            reminder = due(
                since,
                standing.subject.time_zone,
                deadline_at=link.expires_at,
                snoozed_until=None,
                now=now,
            )
            if reminder > row.reminded and not await _has_logged_in(rt, link):
                await remind(rt, run_id, standing.subject, reminder, now=now)
    return woken


async def _has_logged_in(rt: Runtime, link: ConnectLink) -> bool:
    """Whether somebody has, and Makini is still to confirm it: the system is away."""
    async with rt.store.read() as session:
        return await kept_login(session, link) is not None
