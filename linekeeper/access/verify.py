"""Asking again whose the logins are that could not be verified when they came."""

import asyncio
import logging
from datetime import datetime

from linekeeper.access.login import Attempt
from linekeeper.access.pending import Pending, due_logins, postpone_login
from linekeeper.clock import utcnow
from linekeeper.redact import describe_error
from linekeeper.runtime import Runtime
from linekeeper.store.tables import ConnectLink

_log = logging.getLogger(__name__)


async def verify_logins(rt: Runtime, *, now: datetime) -> int:
    """Ask Makini about every kept login whose time has come; returns how many there were.

    They are asked about side by side; one that still can't be verified is kept for the next time.
    """
    due = await due_logins(rt.store, now=now)
    await asyncio.gather(*(_verify(rt, pending, link, by) for pending, link, by in due))
    return len(due)


async def _verify(rt: Runtime, pending: Pending, link: ConnectLink, by: str) -> None:
    try:
        await Attempt(rt, link, None, by).take(pending)
    except Exception as error:  # of this one; the others are asked about all the same
        _log.warning("a login could not be verified: %s", describe_error(error))
    await postpone_login(rt.store, pending.id, now=utcnow())
