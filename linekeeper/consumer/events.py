"""What both kinds of events share: a batch is claimed, applied and settled in one transaction.

Everything an event causes (health, records, incidents, outbox rows) and the word that it is
settled are one transaction without HTTP in it (DESIGN "Process"), so whatever is killed wherever,
an event's effects happen once.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from linekeeper.clock import utcnow
from linekeeper.inbox.claim import (
    Claimed,
    Event,
    EventRetry,
    Settled,
    leave_traces,
    release_claim,
    schedule_retry,
    settle,
    still_ours,
)
from linekeeper.inbox.meaning import CANARY
from linekeeper.logs import WAY, ids_of, passed
from linekeeper.makini import NOT_ASKED, MakiniError
from linekeeper.outbox.forward import AcceptedForward, forward_events
from linekeeper.redact import describe_error
from linekeeper.runtime import Runtime
from linekeeper.store.trouble import is_of_database

MOST_ATTEMPTS = 5
"""How often an event is tried that fails for a reason nobody foresaw: half a minute in all."""
MOST_CALLS = 12
"""How often an event is tried whose records Makini can't give: 20 to 40 minutes, by how many
tries ran out of time and were followed at once; before that its connection is judged
unreachable, and the event deferred."""
LONGEST_WAIT = 600.0


class NotConfigured(Exception):
    """No Makini app of the event's name is in the settings now."""

    def __init__(self, app: str) -> None:
        super().__init__(f"no Makini app {app} is configured")


def next_attempt(
    attempts: int, error: Exception, *, received_at: datetime, now: datetime
) -> datetime | None:
    """When to try again after `attempts`; None to give it up.

    2 s, doubling to ten minutes, or as long as Makini asks. What is only waited for is no failure
    of the event: an answer to a call that the limit forbids, or the settings of its app, which are
    looked for after as long as it has waited, ten minutes at most. It is tried until then, and not
    counted. What trying again doesn't fix is given up at once.
    """
    wait = 2.0 ** min(attempts, 10)
    if isinstance(error, NotConfigured):
        wait = max((now - received_at).total_seconds(), 2.0)
    elif isinstance(error, MakiniError):
        if not error.retryable:
            return None
        if attempts >= MOST_CALLS and not _is_waited_for(error):
            return None
    elif attempts >= MOST_ATTEMPTS:
        return None
    asked_for = error.retry_after or 0.0 if isinstance(error, MakiniError) else 0.0
    return now + timedelta(seconds=max(min(wait, LONGEST_WAIT), asked_for))


def _is_waited_for(error: Exception) -> bool:
    """Whether nothing was tried: for want of the app's settings, or of calls."""
    if isinstance(error, NotConfigured):
        return True
    return isinstance(error, MakiniError) and error.kind in NOT_ASKED


log = logging.getLogger("linekeeper.consumer")

Effects = Callable[[AsyncSession, Sequence[Event]], Awaitable[Mapping[str, Settled]]]
"""Does, in the transaction it is given, what the events cause; says what became of each."""


Trouble = tuple[Sequence[Event], Exception]
"""Events of one ordering key of which the first failed, with the reason."""


async def apply(
    rt: Runtime,
    claimed: Claimed,
    portions: Iterable[Sequence[Event]],
    effects: Effects,
    *,
    committed: Callable[[], None] = lambda: None,
) -> list[Trouble]:
    """Apply events of a claim and settle them, each portion in one transaction.

    Where one can't be applied its portion is done one by one; an event that fails alone is
    returned, with what is behind it in its order: hand that to `failed`. Trouble of the database is
    raised: it says nothing of the events. `committed` is called after each transaction.
    """
    held: dict[str, tuple[list[Event], Exception]] = {}
    for portion in portions:
        free = [event for event in portion if event.ordering_key not in held]
        for event in portion:
            if event.ordering_key in held:
                held[event.ordering_key][0].append(event)
        try:
            await in_transaction(rt, claimed, free, effects)
            committed()
        except Exception as error:
            if is_of_database(error):
                raise
            await _one_by_one(rt, claimed, free, effects, held=held, committed=committed)
    return list(held.values())


async def failed(rt: Runtime, claimed: Claimed, troubles: Sequence[Trouble]) -> None:
    """The first event of each ordering key failed: it is retried later, or given up as dead.

    Those behind it wait as long; if it is given up they are free at once.
    """
    if not troubles:
        return
    now = utcnow()
    dead: dict[str, Settled] = {}
    retries: list[EventRetry] = []
    blocked: list[tuple[Event, datetime]] = []
    for [head, *others], error in troubles:
        until = next_attempt(head.attempts, error, received_at=head.received_at, now=now)
        if until is None:
            dead[head.id] = give_up(head, error)
        else:
            reason = describe_error(error)
            retries.append(EventRetry(head, until, reason, is_counted=not _is_waited_for(error)))
            message = "event %s: attempt %d failed: %s"
            log.info(message, head.id, head.attempts, reason, extra=_about(head, error))
        blocked += [(event, until or now) for event in others]

    async def effects(session: AsyncSession, events: Sequence[Event]) -> Mapping[str, Settled]:
        ours = {event.id for event in events}
        await schedule_retry(session, [retry for retry in retries if retry.event.id in ours])
        await release_claim(session, claimed, blocked)
        return {event_id: dead[event_id] for event_id in dead if event_id in ours}

    await in_transaction(rt, claimed, [group[0] for group, _ in troubles], effects)


def give_up(event: Event, error: Exception, connection_id: str | None = None) -> Settled:
    """The event is dead of `error`; the log says so."""
    reason = describe_error(error)
    message = "event %s is dead after attempt %d: %s"
    log.warning(message, event.id, event.attempts, reason, extra=_about(event, error))
    return Settled("dead", connection_id, reason)


def _about(event: Event, error: Exception) -> dict[str, Any]:
    about = {"event": event.id, "connection": event.connection_ref, "app": event.app}
    return about | ids_of(error)


@asynccontextmanager
async def giving_back(rt: Runtime, claimed: Claimed) -> AsyncIterator[None]:
    """Whatever ends the block early, what it has not settled is due again at once."""
    try:
        yield
    except BaseException:
        with suppress(Exception):  # if that fails too, the claim runs out by itself
            await nack(rt, claimed, claimed.events)
        raise


async def nack(
    rt: Runtime, claimed: Claimed, events: Sequence[Event], *, until: datetime | None = None
) -> None:
    """Give back those of `events` that nobody settled, untried, due `until` then or at once."""
    due = until or utcnow()
    async with rt.store.write() as session:
        await release_claim(session, claimed, [(event, due) for event in events])


async def in_transaction(
    rt: Runtime, claimed: Claimed, events: Sequence[Event], effects: Effects
) -> None:
    """Do `effects` with those of `events` that are still ours, and settle what they say.

    Settings are read before: a transaction must not wait for another connection to the database.
    Raises `NotConfigured`, and does nothing, where they lack the app of an event.
    """
    if not events:
        return
    apps = (await rt.configuration()).apps
    now = utcnow()
    async with rt.store.write() as session:
        ours = await still_ours(session, claimed, events)
        if not ours:
            return
        settled = await effects(session, ours)
        done = [event for event in ours if event.id in settled]
        for event in done:
            is_settled = settled[event.id].status != "dead" and event.kind != CANARY
            if is_settled and event.app not in apps:  # it is not known where to hand it on
                raise NotConfigured(event.app)
        await leave_traces(
            rt.store,
            session,
            [
                (owner, event.received_at)
                for event in done
                if event.replay_of is None
                for owner in settled[event.id].connections
            ],
        )
        accepted = [
            AcceptedForward(app, event, settled[event.id])
            for event in done
            if (app := apps.get(event.app)) and (app.forward_url or app.forward_targets)
        ]
        if accepted:
            await forward_events(rt.store, session, accepted, now=now)
        await settle(session, settled, now=now)
    if WAY.isEnabledFor(logging.INFO):
        for status in sorted({each.status for each in settled.values()}):
            passed(status, [event for event, each in settled.items() if each.status == status])


async def _one_by_one(
    rt: Runtime,
    claimed: Claimed,
    events: Sequence[Event],
    effects: Effects,
    *,
    held: dict[str, tuple[list[Event], Exception]],
    committed: Callable[[], None],
) -> None:
    for event in events:
        if event.ordering_key in held:
            held[event.ordering_key][0].append(event)
            continue
        try:
            await in_transaction(rt, claimed, [event], effects)
            committed()
        except Exception as error:
            if is_of_database(error):
                raise
            held[event.ordering_key] = ([event], error)
